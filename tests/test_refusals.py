"""Every refusal, side by side: one honest run that is met, and what one change to it must lead to.

Each refusal has closer tests of its own: of claims in test_expectations_judge, of statistics in test_speedup and
test_speedup_simulations, of accepting in test_accept, of proofs in test_bundle_command. This is the list that
a reader can hold against docs/verdicts.md, through the very table and JSON that `check` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.expectations.accepting.accept import propose
from aisp_trace.expectations.accepting.occasions import Occasion
from aisp_trace.expectations.judging.evidence import Evidence, gather
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.judged import Judged
from aisp_trace.expectations.judging.validity import beforehand
from aisp_trace.expectations.judging.verdict import Verdict, exit_code
from aisp_trace.expectations.model import Claim, ExpectationFile, Expectations, Provenance
from aisp_trace.report.documents.verdicts import document
from aisp_trace.report.terminal.verdicts import cells, sentences, verdict_table
from aisp_trace.tests.judging.build import (
    BASE_MS,
    FAST_MS,
    HIDDEN,
    KINDS,
    MS,
    OUTPUT,
    SERIAL,
    WORK,
    analysis,
    answer,
    evidence,
    mechanism,
    rounds,
    run_folder,
    time_claim,
)
from aisp_trace.traces.run import load_run

FASTER, HIDES = time_claim(), mechanism(low=0.5)
OVERLAP = {"copy|compute": (500, 500, 400)}


def judged(claim: Claim, shown: Evidence, key: str = "h100") -> tuple[Verdict, ...]:
    """As `check` does it."""
    return beforehand(judge([ExpectationFile(key, (claim,))], shown), shown.run_id)


def optimized(**changes: Any) -> Evidence:
    default = evidence()
    return replace(
        default, variants={**default.variants, "optimized": replace(default.variants["optimized"], **changes)}
    )


def answers(**changes: Any) -> Evidence:
    return optimized(answers=(answer(), answer("round 1", **changes), answer("the recording")))


def timed(fast: Callable[[int, float], float], base: Callable[[int, float], float] = lambda i, t: t) -> Evidence:
    """The default rounds with each side's time changed by its round."""
    return evidence(
        rounds=rounds([base(i, t) for i, t in enumerate(BASE_MS)], [fast(i, t) for i, t in enumerate(FAST_MS)])
    )


REFUSALS: Final[list[tuple[str, Claim, Evidence, str, int, str]]] = [
    # The same, right work.
    ("outputs differ", FASTER, answers(output=replace(OUTPUT, ok=False, error=0.5)), "invalid", 3, "differs from"),
    ("outputs unwritten", HIDES, answers(output=replace(OUTPUT, poisoned=1)), "invalid", 3, "unwritten"),
    ("less work", FASTER, answers(work=replace(WORK, items=512)), "invalid", 3, "required work differs: items"),
    ("other inputs", FASTER, answers(inputs=("pipeline", "cuda", "default", 1)), "invalid", 3, "inputs differ: seed"),
    (
        "bytes contradicted",
        FASTER,
        optimized(analysis=analysis(kinds={**KINDS, "h2d": (50, 5 * 10**6)}, overlap=OVERLAP)),
        "invalid",
        3,
        "predicts 1,000,000 h2d bytes",
    ),
    # Trust.
    (
        "evidence untrusted",
        HIDES,
        optimized(analysis=analysis(overlap=OVERLAP, distrust={"overlap": ("partial", "events were lost")})),
        "invalid",
        3,
        "trust in overlap is partial: events were lost",
    ),
    (
        "slowed down by tracing",
        mechanism("idle.share", of="all", high=0.9),
        optimized(traced_ns=(20 * MS,) * 10),
        "invalid",
        3,
        "tracing slowed it down 2.00 times",
    ),
    ("no trace", HIDES, optimized(analysis=None), "inconclusive", 3, "no trace of optimized"),
    (
        "nothing to hide",
        HIDES,
        optimized(analysis=analysis(kinds=KINDS, overlap={"copy|compute": (0, 500, 0)})),
        "inconclusive",
        3,
        "has no",
    ),
    # Statistics.
    ("interval straddles", time_claim(2.0), evidence(), "inconclusive", 3, "straddles the bound"),
    ("drift", time_claim(1.98), timed(lambda i, t: t * 0.98 ** (7 - i)), "inconclusive", 3, "drift by"),
    ("step", time_claim(2.1), timed(lambda i, t: t * (1 if i < 4 else 0.9)), "inconclusive", 3, "two groups"),
    (
        "bimodal clocks",
        time_claim(2.1),
        timed(lambda i, t: t * (0.85 if i % 3 == 0 else 1)),
        "inconclusive",
        3,
        "two groups",
    ),
    (
        "rounds that follow each other",
        time_claim(1.93),
        timed(lambda i, t: t * (1 + 0.03 * (i - 4) ** 2 / 16)),
        "inconclusive",
        3,
        "each round resembles the one before it",
    ),
    (
        "iterations of two kinds",
        time_claim(1.1),
        evidence(
            rounds=tuple(
                replace(r, times_ns={**r.times_ns, "optimized": (5 * MS,) * 11 + (50 * MS,)}) for r in evidence().rounds
            )
        ),
        "inconclusive",
        3,
        "fall into two groups",
    ),
    (
        "faster by the median alone",
        replace(time_claim(1.9), statistic="median"),
        evidence(
            rounds=tuple(
                replace(r, times_ns={**r.times_ns, "optimized": (10 * MS,) * 9 + (15 * MS,) * 3})
                for r in evidence().rounds
            )
        ),
        "inconclusive",
        3,
        "but by the mean it is",
    ),
    (
        "before the first look",
        FASTER,
        evidence(looks=(12, 16, 24, 32, 40)),
        "inconclusive",
        3,
        "the budget was too short",
    ),
    (
        "another harness",
        replace(FASTER, provenance=Provenance(commit="c", recorded_utc="2026", harness=1)),
        evidence(harness=2),
        "unrecorded",
        3,
        "measured by harness 1",
    ),
    (
        "too few rounds",
        FASTER,
        evidence(rounds=rounds(BASE_MS[:7], FAST_MS[:7])),
        "inconclusive",
        3,
        "capture with --rounds 8",
    ),
    (
        "always one order",
        FASTER,
        evidence(rounds=tuple(replace(r, order=("baseline", "optimized")) for r in evidence().rounds)),
        "inconclusive",
        3,
        "drift within a round does not cancel",
    ),
    (
        "two timers",
        FASTER,
        optimized(answers=(answer(timer="perf_counter"),)),
        "invalid",
        3,
        "different timers: cuda_event, perf_counter",
    ),
    # Written down beforehand, for this machine and size.
    ("another machine", FASTER, evidence(hardware_key="a100"), "unrecorded", 3, "recorded for h100"),
    ("another size", FASTER, evidence(size="tiny"), "unrecorded", 3, "recorded for size default"),
    ("its own bound", FASTER, evidence(run_id="pipeline-0"), "unrecorded", 3, "measured in this run"),
    # And what is no refusal but a miss.
    (
        "its own bound, made stricter by hand",
        time_claim(3.0, 4.0),
        evidence(run_id="pipeline-0"),
        "missed",
        1,
        "outside",
    ),
    ("slower than claimed", FASTER, timed(lambda i, t: t * 1.9), "missed", 1, "lies outside the bound"),
]


@pytest.mark.parametrize("claim", [FASTER, HIDES], ids=["time", "mechanism"])
def test_the_honest_run_is_met(claim: Claim) -> None:
    assert {v.status for v in judged(claim, evidence())} == {"met"}


@pytest.mark.parametrize(
    ("claim", "shown", "status", "code", "words"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_each_refusal(claim: Claim, shown: Evidence, status: str, code: int, words: str) -> None:
    found = judged(claim, shown)
    assert found[0].status == status
    assert words in found[0].reason
    assert exit_code(found) == code
    assert any(words in line for line in sentences(found))


def test_both_sides_ten_times_slower_is_missed_though_the_ratio_is_met() -> None:
    found = judged(FASTER, timed(lambda i, t: 10 * t, lambda i, t: 10 * t))
    assert [v.status for v in found] == ["met", "missed", "missed"]
    assert exit_code(found) == 1


def test_every_verdict_shows_its_working_in_the_table_and_in_json() -> None:
    """Value, bound, margin, n, interval and source."""
    shown = evidence()
    found = (*judged(FASTER, shown), *judged(HIDES, shown))
    table = verdict_table(found, "pipeline", 100)
    expectations = Expectations(Path("expectations"), "option", ())
    rows = document(Judged(expectations, shown, found, ()))["verdicts"]
    assert all(title in table.splitlines()[0] for title in ("value", "interval", "bound", "margin", "n", "bound from"))
    for verdict, row in zip(found, rows, strict=True):
        figures = cells(verdict)
        line = next(i for i, text in enumerate(table.splitlines()) if verdict.quantity in text)
        assert figures.value in table.splitlines()[line + 1]
        assert {"value", "bound", "margin", "n", "sample", "interval", "source", "reason"} <= set(row)
        assert row["value"] is not None and row["n"] >= 1 and row["bound"] is not None and row["margin"] > 0
        assert row["source"]["kind"] == verdict.source.kind
    assert all(row["interval"]["low"] <= row["value"] <= row["interval"]["high"] for row in rows[:3])


# --- accepting --------------------------------------------------------------------------------------------------------


def occasion(folder: Path, **manifest: Any) -> Occasion:
    """The default run as one that could be accepted: from a clean commit."""
    run = load_run(run_folder(folder))
    clean = {"git": {"commit": "a" * 40, "dirty": False}, **manifest}
    run = replace(run, manifest=replace(run.manifest, **clean))
    return Occasion(gather(run, {"baseline": SERIAL, "optimized": HIDDEN}), run.manifest)


PRESENT = ExpectationFile("h100", (time_claim(1.99, 2.02, base_ms=20.1, fast_ms=10.05),))
"""Bounds closer than any run of eight rounds would give: accepting could only loosen them."""


def refusals(target: ExpectationFile, *occasions: Occasion, **options: Any) -> str:
    return "; ".join(str(r) for r in propose(occasions, target, **options).refusals)


def test_loosening_is_refused_unless_asked_for(tmp_path: Path) -> None:
    one = occasion(tmp_path / "pipeline-1")
    assert "--allow-loosen accepts that" in refusals(PRESENT, one)
    assert refusals(PRESENT, one, allow_loosen=True) == ""


@pytest.mark.parametrize(
    ("git", "words"),
    [
        ({"commit": "a" * 40, "dirty": True}, "commit first"),
        ({"commit": None, "dirty": None}, "does not know its commit"),
    ],
)
def test_a_changed_or_unknown_tree_is_refused(tmp_path: Path, git: dict[str, Any], words: str) -> None:
    assert words in refusals(PRESENT, occasion(tmp_path / "pipeline-1", git=git))


def test_a_failed_verdict_is_not_made_the_new_normal(tmp_path: Path) -> None:
    demanding = ExpectationFile("h100", (time_claim(2.5, 3.0),))
    assert "is missed" in refusals(demanding, occasion(tmp_path / "pipeline-1"))


def test_another_machine_is_refused(tmp_path: Path) -> None:
    assert "was made on h100" in refusals(replace(PRESENT, hardware_key="a100"), occasion(tmp_path / "pipeline-1"))
