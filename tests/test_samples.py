"""The run folders in traces/samples and the script that makes them: whole, scrubbed, small, and judged as their README says."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.expectations.judging.judged import Judged, analyses_of_run, judge_run
from aisp_trace.report.results.rows import Row, rows_of
from aisp_trace.traces.run import Run, load_run

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "traces" / "samples"
FOLDERS = sorted(file.parent.name for file in SAMPLES.glob("*/manifest.json"))
BUDGET = 10 << 20
PRIVATE = re.compile(rb"/(?:root|home|tmp)/[^\0]{0,40}|\b(?:PATH|HOSTNAME)=")


def test_all_samples_together_stay_below_10_mib() -> None:
    assert sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file()) < BUDGET


@pytest.mark.parametrize("name", FOLDERS)
def test_a_sample_run_is_whole_and_gives_nothing_away(name: str) -> None:
    run = load_run(SAMPLES / name)
    known = {run.path / "manifest.json"}
    for variant in run.manifest.variants:
        trace = run.trace_path(variant)
        if trace is not None:
            known |= {trace, trace.with_name("traced.json")}
            assert PRIVATE.findall(lzma.decompress(trace.read_bytes())) == []
    assert {file for file in run.path.rglob("*") if file.is_file()} <= known, "logs and reports stay at home"
    assert PRIVATE.findall((run.path / "manifest.json").read_bytes()) == []


def judged(name: str, folder: Path) -> tuple[Run, Judged, dict[str, Row]]:
    """A sample by the claims that hold on any machine: those of one machine may be newer than the sample."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "expectations" / "expectations_any.json", folder)
    run = load_run(SAMPLES / name)
    found = judge_run(run, analyses_of_run(run), folder)
    return run, found, {row.variant: row for row in rows_of(found.evidence, run.manifest.alternatives)}


def test_the_allocator_sample(tmp_path: Path) -> None:
    _, found, rows = judged("h200_memory_standard", tmp_path / "any")
    assert {v.status for v in found.verdicts} == {"met"}
    spent = {name: row.spent for name, row in rows.items() if row.spent is not None}
    later = [spent[name].allocator for name in ("keep_cache", "reuse", "optimized")]
    base, last = spent["baseline"], spent["optimized"]
    assert base.allocator is not None and base.allocator > 0.3
    assert base.idle_cause == "allocator"
    assert later == [0.0, 0.0, 0.0]
    assert not last.copies and last.hidden_copies is None
    analysis = found.evidence.variants["baseline"].analysis
    assert analysis is not None
    assert analysis.allocator.select(pl.col("calls").sum()).item() == 96 * analysis.iterations.height


def test_the_sample_with_missing_recordings(tmp_path: Path) -> None:
    run, found, rows = judged("h200_end_to_end_bandwidth", tmp_path / "any")
    assert [v.name for v in run.manifest.variants if v.recording is None] == ["baseline", "pinned"]
    assert "the recordings of baseline, pinned" in run.manifest.notes[-1]
    assert [name for name, row in rows.items() if row.spent is None] == ["baseline", "pinned"]
    assert all(row.time_ns for row in rows.values())
    assert {v.status for v in found.verdicts} == {"met", "inconclusive"}
    for v in found.verdicts:
        if v.status == "inconclusive":
            assert "holds no trace of" in v.reason


def make(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-P", "scripts/make_sample.py", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_sample_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    source, made = SAMPLES / "h200_memory_standard", tmp_path / "made"
    done = make(source, made, "--traces", "optimized")
    assert done.returncode == 0, done.stderr
    run = load_run(made)
    assert [v.name for v in run.manifest.variants if v.recording] == ["optimized"]
    analysis = analyses_of_run(run)["optimized"]
    assert analysis.ledger.equals(analyses_of_run(load_run(source))["optimized"].ledger), "scrubbing changes no figure"
    assert run.manifest.rounds == load_run(source).manifest.rounds
    files = {str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()}
    assert files == {"manifest.json", "optimized/trace.sqlite.xz"}
    for words, said in (
        ([source, made], "exists already"),
        ([source, tmp_path / "x", "--traces", "optimised"], "did you mean 'optimized'"),
        ([source, tmp_path / "x", "--traces", "optimized", "--most", "0.01"], "name fewer --traces"),
        ([tmp_path, tmp_path / "x"], "is not a run folder"),
    ):
        done = make(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"], "nothing half made is left"
    assert json.loads((made / "manifest.json").read_text())["run_id"] == load_run(source).manifest.run_id
