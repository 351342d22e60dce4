"""Bounds of one timing judge no run of another: whole processes, steps and iterations are different quantities.

before   |start-up|iteration|iteration|...|end|        564 ms a process
after             |iteration|                           46 ms an iteration, of the same scripts
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.capture import host
from aisp_trace.capture.looks import Made, so_far, until_decided
from aisp_trace.capture.plan import Goal
from aisp_trace.capture.progress import Progress
from aisp_trace.cli import goals as reading
from aisp_trace.cli.main import main
from aisp_trace.expectations.accepting.accept import propose
from aisp_trace.expectations.accepting.occasions import Occasion
from aisp_trace.expectations.claims.diff import LOOSER, OTHER, REMOVED, differences
from aisp_trace.expectations.claims.digest import sealed
from aisp_trace.expectations.deciding import DECIDING
from aisp_trace.expectations.judging.evidence import STEP, WHOLE, Evidence, gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.model import ExpectationFile, MechanismClaim, TimeClaim
from aisp_trace.tests.judging.build import (
    BASE_MS,
    FAST_MS,
    evidence,
    mechanism,
    recorded,
    rounds,
    run_folder,
    time_claim,
)
from aisp_trace.tests.judging.world import good_world, pair
from aisp_trace.tests.test_capture_rounds import make_plan
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.run import HARNESS, MANIFEST, Run, load_run, write_json

WAYS = {"iteration": "iterations", STEP: "training steps", WHOLE: "whole processes"}


def accepted(timed: str, tmp_path: Path, *claims: MechanismClaim) -> TimeClaim | MechanismClaim:
    """What `accept` makes of the default run timed by `timed`, last claim of the file; `claims` are there already."""
    shown = replace(recorded(evidence(timed=timed), 3), run_id="pipeline-1")
    made = replace(load_run(run_folder(tmp_path / "pipeline-1")).manifest, git={"commit": "0" * 40, "dirty": False})
    occasion = Occasion(shown, made)
    proposal = propose([occasion], ExpectationFile("h100", claims), allow_loosen=True)
    assert proposal.refusals == ()
    return next(c for c in proposal.claims if isinstance(c, MechanismClaim if claims else TimeClaim))


def later(timed: str) -> Evidence:
    return evidence(run_id="pipeline-2", timed=timed)


@pytest.mark.parametrize("then", WAYS)
@pytest.mark.parametrize("now", [*WAYS, "call"])
def test_a_time_is_judged_by_bounds_of_the_same_timing_alone(tmp_path: Path, then: str, now: str) -> None:
    claim = accepted(then, tmp_path)
    assert isinstance(claim, TimeClaim)
    claim = sealed(replace(claim, min_items_per_s={"optimized": 1.0}))
    found = judge([ExpectationFile("h100", (claim,))], later(now))
    if then == now:
        assert {v.status for v in found} == {"met"} and len(found) == 4
        return
    (verdict,) = found  # one for ratio, milliseconds and items per second together
    assert verdict.status == "unrecorded"
    words = {**WAYS, "call": "calls"}[now]
    assert verdict.reason == f"the bound was measured by {WAYS[then]}, this run by {words}; accept a new one"


def test_a_miss_by_other_times_is_none(tmp_path: Path) -> None:
    """Both ways: milliseconds of iterations would call every later whole process a miss."""
    claim = accepted("iteration", tmp_path)
    slow = replace(later(WHOLE), rounds=rounds([12 * ms for ms in BASE_MS], [30 * ms for ms in FAST_MS]))
    assert [v.status for v in judge([ExpectationFile("h100", (claim,))], slow)] == ["unrecorded"]


@pytest.mark.parametrize("now", WAYS)
def test_bounds_that_do_not_say_judge_as_before(now: str) -> None:
    claim = time_claim()
    assert claim.provenance is not None and claim.provenance.timed_by is None
    assert {v.status for v in judge([ExpectationFile("h100", (claim,))], later(now))} == {"met"}


def test_counts_are_per_iteration_and_shares_are_not(tmp_path: Path) -> None:
    claims = {
        "count": mechanism("copies.count", low=1, high=99, of="copy", unit="count"),
        "share": mechanism("overlap.efficiency", low=0.1),
    }
    for name, claim in claims.items():
        own = replace(claim, size="default", source=time_claim().source, provenance=time_claim().provenance)
        made = accepted(WHOLE, tmp_path / name, own)
        assert made.provenance is not None and made.provenance.timed_by == "processes"
        found = {now: judge([ExpectationFile("h100", (made,))], later(now))[0].status for now in (WHOLE, "iteration")}
        assert found == {WHOLE: "met", "iteration": "unrecorded" if name == "count" else "met"}


def test_runs_of_two_timings_bound_nothing_together(tmp_path: Path) -> None:
    manifest = load_run(run_folder(tmp_path / "pipeline-1")).manifest
    two = [
        Occasion(later(WHOLE), manifest),
        Occasion(replace(later("iteration"), run_id="pipeline-3"), replace(manifest, created_utc="2026-02-01")),
    ]
    two[1] = replace(two[1], manifest=replace(manifest, workload="pipeline", rounds=manifest.rounds[:-1]))
    with pytest.raises(UsageError, match=r"is timed by .*, pipeline-. by .*; accept them one by one"):
        propose(two, ExpectationFile("h100", ()))


def test_a_new_bound_of_another_timing_is_neither_looser_nor_tighter(tmp_path: Path) -> None:
    whole, single = (accepted(timed, tmp_path / timed.replace(" ", "_")) for timed in (WHOLE, "iteration"))
    assert isinstance(whole, TimeClaim) and isinstance(single, TimeClaim)
    single = replace(single, max_ms={name: 10 * most for name, most in single.max_ms.items()})
    found = differences((whole,), (single,))
    assert {d.direction for d in found} == {OTHER} and all(d.asks_less for d in found)
    assert (found[0].part, found[0].old, found[0].new) == ("timed by", "processes", "iterations")
    assert LOOSER in {d.direction for d in differences((replace(single, max_ms=whole.max_ms),), (single,))}


@pytest.mark.parametrize("key", ["timed_by", "digest"])
def test_a_bound_that_forgets_asks_for_less(tmp_path: Path, key: str) -> None:
    claim = accepted(WHOLE, tmp_path)
    assert claim.provenance is not None
    changes: dict[str, Any] = {key: None}
    found = differences((claim,), (replace(claim, provenance=replace(claim.provenance, **changes)),))
    assert [(d.part, d.direction) for d in found] == [(f"provenance.{key}", REMOVED), ("source or reason", "reworded")]


def test_commands_that_do_not_say_what_timed_them_are_whole_processes(tmp_path: Path) -> None:
    """Their wall times are what is judged: a manifest without the key is no way to have these taken for iterations."""
    world = pair("python b.py")(good_world(tmp_path / "pipeline-1"))
    for timed in ("processes", None):
        found = gather(Run(world.folder, replace(world.manifest, timed=timed)), {})
        assert found.timed == WHOLE


# --- capture --decide -------------------------------------------------------------------------------------------------

OTHERWISE = Goal("w.faster", "baseline", "optimized", 1.5, "mean", max_ms={"optimized": 565.0}, timed_by="processes")


def made(speedups: Sequence[float], timed_by: str) -> Made:
    times = [
        (i, name, (ns,))
        for i, s in enumerate(speedups)
        for name, ns in (("baseline", 10**6), ("optimized", round(10**6 / s)))
    ]
    return Made(times, 10**9 * len(speedups), {}, timed_by)


def test_bounds_of_another_timing_decide_no_goal() -> None:
    """Rounds around 1: 1.5 is missed clearly, whether it is faster at all is open, and that is what is asked."""
    plan = make_plan(rounds=40, looks=DECIDING, goals=(OTHERWISE,))
    around = [0.99 if i % 3 else 1.01 for i in range(12)]
    assert so_far(plan, made(around, "processes"))[0] == {}
    left = so_far(plan, made(around, "iterations"))[0]
    assert list(left) == ["optimized faster than baseline"]
    fast = [2.0 + 0.01 * (i * 7 % 5) for i in range(12)]
    assert so_far(plan, made(fast, "iterations"))[0] == {}


@pytest.mark.parametrize(("timed_by", "said"), [("processes", False), ("iterations", True)])
def test_the_first_round_says_that_a_bound_decides_nothing(timed_by: str, said: bool) -> None:
    plan = make_plan(rounds=40, looks=DECIDING, goals=(OTHERWISE,))
    out, done = io.StringIO(), list[int]()
    fast = [2.0 + 0.01 * (i * 7 % 5) for i in range(40)]
    until_decided(plan, done.append, lambda: made(fast[: len(done)], timed_by), Progress("fake", 12, out))
    told = "the bound of w.faster was measured by whole processes, these rounds by iterations: it decides nothing"
    assert (out.getvalue().count(told), len(done)) == (int(said), 12)
    what = "the speedup: optimized faster than baseline" if said else "every claim on times: w.faster"
    assert f"12 rounds decide {what}" in out.getvalue()


@pytest.mark.parametrize("known", [None, {"commit": "a"}, {"timed_by": "processes"}])
def test_a_goal_says_what_its_bounds_were_measured_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: Mapping[str, Any] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "hardware", lambda device: type("H", (), {"key": "mine"}))
    claim: dict[str, Any] = {"type": "time", "id": "f", "workload": "fake_workload", "size": "tiny"}
    claim |= {"variant": "optimized"}
    document = {"claims": [claim | {"baseline": "baseline", "ratio": {"min": 1.5}, "max_ms": {}, "provenance": known}]}
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "expectations_mine.json").write_text(json.dumps(document), encoding="utf-8")
    (goal,) = reading.deciding(make_plan(), 60.0).goals
    assert (goal.timed_by, goal.max_ms) == ((known or {}).get("timed_by"), {})


@pytest.mark.parametrize(
    ("source", "harness", "kind", "decides"),
    [
        ("builtin", HARNESS, "measured", True),
        ("builtin", None, "measured", False),
        ("builtin", None, "model", True),
        ("pair", None, "measured", True),
    ],
)
def test_bounds_of_another_harness_are_no_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, harness: int | None, kind: str, decides: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "hardware", lambda device: type("H", (), {"key": "mine"}))
    claim: dict[str, Any] = {"type": "time", "id": "f", "workload": "fake_workload", "size": "tiny"}
    claim |= {"variant": "optimized"}
    claim |= {"baseline": "baseline", "ratio": {"min": 1.5}, "max_ms": {}, "source": {"kind": kind}}
    document = {"claims": [{**claim, "provenance": {"harness": harness}}]}
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "expectations_mine.json").write_text(json.dumps(document), encoding="utf-8")
    (goal,) = reading.deciding(make_plan(source=source), 60.0).goals
    assert (goal.claim == "f", goal.to_bound) == (decides, not decides)


# --- the command lines ------------------------------------------------------------------------------------------------


def test_iterations_marked_after_accepting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """accept by whole processes; mark iterations; check, bundle verify and accept anew."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, timed_ms: tuple[float, float] | None) -> Path:
        world = good_world(tmp_path / name)
        manifest = pair("python b.py", timed_ms=timed_ms)(world).manifest
        looks, asked = (16,), ["aisp-trace", "capture", "--rounds", "16"]
        write_json(world.folder / MANIFEST, replace(manifest, size=None, looks=looks, command_line=asked))
        return world.folder

    def aisp(*args: object) -> tuple[int, str]:
        code = main([*map(str, args)])
        shown = capsys.readouterr()
        return code, " ".join((shown.out + shown.err).split())

    whole, single = run("mine-1", None), run("mine-2", (50.0, 20.0))
    code, out = aisp("accept", whole, "--yes")
    assert code == 0, out
    words = "the bound was measured by whole processes, this run by iterations; accept a new one"
    code, out = aisp("check", single)
    assert (code, words in out) == (3, True), out
    assert aisp("bundle", single, "-o", "proof.tar.gz")[0] == 0
    code, out = aisp("bundle", "verify", "proof.tar.gz", "--expectations", "expectations")
    assert (code, words in out) == (3, True), out
    code, out = aisp("accept", single, "--yes")
    assert (code, "processes iterations other claim" in out) == (0, True), out
    code, out = aisp("check", run("mine-3", None))
    words = "the bound was measured by iterations, this run by whole processes"
    assert (code, words in out) == (3, True), out
    (claim,) = json.loads(next((tmp_path / "expectations").iterdir()).read_text())["claims"]
    assert claim["provenance"]["timed_by"] == "iterations"
    assert 2 < claim["ratio"]["min"] < 2.5
