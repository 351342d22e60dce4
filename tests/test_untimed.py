"""What no iteration is charged for, held against the baseline's. Cheats that really run: tests/test_cheats.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.judging.evidence import Evidence, gather
from aisp_trace.expectations.judging.judged import Judged
from aisp_trace.expectations.judging.untimed import moved_out, untimed
from aisp_trace.expectations.model import Expectations
from aisp_trace.report.documents.verdicts import document
from aisp_trace.report.terminal.verdicts import print_judged
from aisp_trace.tests.judging.build import MS, run_folder
from aisp_trace.traces.run import Proof, Run, load_run

HONEST = Proof(True, None, (3, 5), MS, 0, MS // 20)


def shown(tmp: Path, *optimized: Proof | None, baseline: Proof = HONEST) -> Evidence:
    """Eight rounds that gain 10 ms in an iteration, with the proofs of the optimized variant by turns."""
    manifest = load_run(run_folder(tmp / "pipeline-1")).manifest
    made = []
    for r in manifest.rounds:
        own = {"baseline": baseline, "optimized": optimized[r.index % len(optimized)]}
        results = [replace(v, proof=own[v.name]) for v in r.result.variants]
        made.append(replace(r, result=replace(r.result, variants=results)))
    return gather(Run(Path("run"), replace(manifest, rounds=made)), {})


def proof(*, prepare_ms: float = 1.0, reset_ms: float = 0.0, outputs_ms: float = 0.05, **changes: Any) -> Proof:
    ns = [round(ms * MS) for ms in (prepare_ms, reset_ms, outputs_ms)]
    return replace(HONEST, prepare_ns=ns[0], reset_ns=ns[1], outputs_ns=ns[2], **changes)


# --- the rule -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimized", "accused"),
    [
        (proof(), False),
        (proof(reset_ms=4.9), False),
        (proof(reset_ms=5.2), True),
        (proof(outputs_ms=5.2), True),
        (proof(reset_ms=2.6, outputs_ms=2.6), True),
        (proof(prepare_ms=60_000), False),
        (proof(prepare_ms=60_000, fresh=False, reuse="on tape"), True),
        (proof(fresh=False, reuse="on tape"), False),
    ],
)
def test_more_than_half_of_an_iteration_is_an_objection(optimized: Proof, accused: bool, tmp_path: Path) -> None:
    assert [name for name, _ in moved_out(shown(tmp_path, optimized))] == (["optimized"] if accused else [])


def test_a_baseline_that_does_the_same_untimed_pays_the_same(tmp_path: Path) -> None:
    """Both restore the weights."""
    both = proof(reset_ms=8)
    assert list(moved_out(shown(tmp_path, both, baseline=both))) == []


def test_a_baseline_that_is_slow_elsewhere_pays_for_nothing(tmp_path: Path) -> None:
    """Its slow outputs do not pay for the other's reset."""
    found = list(moved_out(shown(tmp_path, proof(reset_ms=6), baseline=proof(outputs_ms=9))))
    assert "takes 6.00 ms longer than baseline in reset()," in found[0][1]


def test_a_process_that_was_interrupted_accuses_nobody(tmp_path: Path) -> None:
    assert list(moved_out(shown(tmp_path, proof(), proof(), proof(), proof(reset_ms=50)))) == []
    assert list(moved_out(shown(tmp_path / "x", proof(reset_ms=6), proof(reset_ms=6), proof())))


def test_without_a_gain_there_is_nothing_to_pay_for(tmp_path: Path) -> None:
    slower = shown(tmp_path, proof(reset_ms=9))
    rounds = tuple(replace(r, times_ns={**r.times_ns, "optimized": r.times_ns["baseline"]}) for r in slower.rounds)
    assert list(moved_out(replace(slower, rounds=rounds))) == []
    assert untimed(replace(slower, rounds=rounds))[1].pays_after is None


def test_a_short_iteration_may_not_pay_for_itself_elsewhere(tmp_path: Path) -> None:
    """1 ms of 20, and 3 ms more in reset: hardly more gain than the honest 4 ms, and five times the speedup."""
    slow = shown(tmp_path, proof(reset_ms=3))
    rounds = tuple(replace(r, times_ns={**r.times_ns, "optimized": (MS,) * 10}) for r in slow.rounds)
    ((name, text),) = moved_out(replace(slow, rounds=rounds))
    assert name == "optimized" and text.endswith("with it, an iteration of 1.00 ms is 5 times as fast, not 20")


def test_a_small_gain_may_not_all_come_from_elsewhere(tmp_path: Path) -> None:
    """Half a millisecond of 20, and as much more in reset: a fortieth of an iteration, and all of the gain."""
    slow = shown(tmp_path, proof(reset_ms=0.6))
    rounds = tuple(
        replace(r, times_ns={"baseline": (20 * MS,) * 10, "optimized": (19_500_000,) * 10}) for r in slow.rounds
    )
    ((_, text),) = moved_out(replace(slow, rounds=rounds))
    assert text.endswith("with it, an iteration of 19.5 ms is 0.995 times as fast, not 1.03")


def test_older_runs_say_nothing(tmp_path: Path) -> None:
    assert untimed(gather(load_run(run_folder(tmp_path / "pipeline-1")), {})) == ()
    assert untimed(replace(shown(tmp_path / "x", proof()), manifest=None)) == ()


# --- what is shown --------------------------------------------------------------------------------------------------------


def test_preparing_pays_after_so_many_iterations(tmp_path: Path) -> None:
    base, other = untimed(shown(tmp_path, proof(prepare_ms=52)))
    assert (base.variant, base.prepare_ns, base.reset_ns, base.outputs_ns) == ("baseline", MS, 0, MS / 20)
    assert (base.gain_ns, base.charged_ratio, base.pays_after, base.reuse) == (None, None, None, None)
    assert other.pays_after == 6
    assert other.gain_ns == pytest.approx(10 * MS, rel=0.01)
    assert other.charged_ratio == pytest.approx(2, rel=0.01)
    assert untimed(shown(tmp_path / "x", proof(prepare_ms=0.5)))[1].pays_after == 0


def test_check_shows_it_as_a_table_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = Judged(Expectations(Path("x"), "option", ()), shown(tmp_path, proof(prepare_ms=52, reset_ms=1)), (), ())
    print_judged(judged)
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("untimed"))
    assert [line.split() for line in lines[at : at + 3]] == [
        ["untimed", "prepare", "reset", "outputs", "if", "charged", "preparation", "pays", "after"],
        ["baseline", "1.00", "ms", "none", "50.0", "us", "-", "-"],
        ["optimized", "52.0", "ms", "1.00", "ms", "50.0", "us", "1.82x", "6", "iterations"],
    ]
    found = document(judged)["untimed"]
    assert found[1] == {
        "variant": "optimized",
        "prepare_ns": 52 * MS,
        "reset_ns": MS,
        "outputs_ns": MS // 20,
        "gain_ns": pytest.approx(10 * MS, rel=0.01),
        "charged_ratio": pytest.approx(20 / 11, rel=0.01),
        "pays_after": 6,
    }
