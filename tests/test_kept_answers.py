"""What processes wrote themselves, against what the manifest says of them: only files of the run's own folder are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.judging.admissible import examine
from aisp_trace.expectations.judging.judged import evidence_of
from aisp_trace.expectations.judging.kept import contradictions
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.traces.run import Run, load_run, to_json, write_json


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Run:
    """A run with its rounds' answers beside the manifest, as `capture` leaves it."""
    run = load_run(run_folder(tmp_path / "pipeline-1", traced=False))
    for made in run.manifest.rounds:
        write_json(run.path / made.command[-1], made.result)
    return run


def test_answers_that_agree_say_nothing(run: Run) -> None:
    assert list(contradictions(run)) == []


def test_a_run_without_its_files_says_nothing(tmp_path: Path) -> None:
    assert list(contradictions(load_run(run_folder(tmp_path / "pipeline-1")))) == []


def edited(change: Callable[[dict[str, Any]], Any], file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda d: d.update(seed=7), "another seed of round 3"),
        (lambda d: d["facts"].update(torch="1"), "another facts of round 3"),
        (lambda d: d["variants"].reverse(), "another list of variants of round 3"),
        (lambda d: d["variants"][0]["iterations_ns"].reverse(), "another iterations_ns of optimized of round 3"),
        (lambda d: d["variants"][1]["work"].update(flops=1), "another work of baseline of round 3"),
        (lambda d: d["variants"][1]["output"].update(tolerance=1.0), "another output of baseline of round 3"),
        (lambda d: d["variants"][0].update(repeated_ns=[1, 2]), "another repeated_ns of optimized of round 3"),
        (lambda d: d["variants"][0].update(repeated=50), "another repeated of optimized of round 3"),
        (lambda d: d["variants"][0].update(timed_ns=[1, 2]), "another timed_ns of optimized of round 3"),
        (lambda d: d.update(more=1), "what round 3 wrote itself cannot be read"),
    ],
)
def test_what_differs_is_named(run: Run, change: Callable[[dict[str, Any]], Any], part: str) -> None:
    edited(change, run.path / "round_03.json")
    (found,) = contradictions(run)
    assert part in found
    assert [f.text for f in examine(evidence_of(run))] == [found], "what is judged asks for it"


def test_a_recordings_answer_is_held_against_its_file(tmp_path: Path) -> None:
    run = load_run(run_folder(tmp_path / "pipeline-1"))
    own = run.manifest.variants[1].recording
    assert own is not None and own.result is not None
    write_json(run.path / "traced.json", own.result)
    # In this folder both recordings wrote to one file, which answers for the last of them.
    (found,) = contradictions(run)
    assert "another list of variants of the recording of baseline than traced.json" in found


def test_files_outside_of_the_run_are_not_read(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    write_json(other, replace(run.manifest.rounds[0].result, seed=9))
    (run.path / "link.json").symlink_to(other)
    for word in ("../other.json", str(other), "link.json"):
        made = [replace(r, command=[*r.command[:-1], word]) for r in run.manifest.rounds]
        assert list(contradictions(Run(run.path, replace(run.manifest, rounds=made)))) == []
    assert to_json(run.manifest) == to_json(load_run(run.path).manifest)
