"""An accepted bound fits its digest; one that a hand has changed, in whichever direction, does not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.digest import is_changed, sealed
from aisp_trace.expectations.claims.parse import parse
from aisp_trace.expectations.claims.write import claim_document
from aisp_trace.expectations.judging import judged as cli_evidence
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.model import ExpectationFile, RequiredWork, Source
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, evidence, mechanism, time_claim
from aisp_trace.tests.test_accept_command import run_at, state

THEN = time_claim().provenance
assert THEN is not None
WORK = RequiredWork(1024, "samples", 10**9, 10**6, 10**6)
MEASURED = Source("measured", "pipeline-0", "accepted by a test", ("pipeline-00",))
TIME = sealed(
    time_claim(
        min_items_per_s={"optimized": 1.0},
        source=MEASURED,
        provenance=replace(THEN, timed_by="iterations", evidence=("a" * 64,), work=WORK),
    )
)
SHARE = sealed(mechanism(low=0.5, source=MEASURED, provenance=replace(THEN, between=0.01, starts=2)))

EDITS: dict[str, tuple[Any, Callable[[dict[str, Any]], object]]] = {
    "ratio.min lower": (TIME, lambda c: c["ratio"].update(min=1.2)),
    "ratio.min higher": (TIME, lambda c: c["ratio"].update(min=1.6)),
    "ratio.max higher": (TIME, lambda c: c["ratio"].update(max=30)),
    "ratio.max away": (TIME, lambda c: c["ratio"].pop("max")),
    "max_ms ten times": (TIME, lambda c: c["max_ms"].update(optimized=120)),
    "max_ms of the baseline": (TIME, lambda c: c["max_ms"].update(baseline=26)),
    "max_ms tighter": (TIME, lambda c: c["max_ms"].update(optimized=11.9)),
    "max_ms of one away": (TIME, lambda c: c["max_ms"].pop("baseline")),
    "max_ms away": (TIME, lambda c: c.update(max_ms={})),
    "items lower": (TIME, lambda c: c["min_items_per_s"].update(optimized=0.5)),
    "items of the other": (TIME, lambda c: c["min_items_per_s"].update(baseline=1)),
    "statistic": (TIME, lambda c: c.update(statistic="median")),
    "another variant": (TIME, lambda c: c.update(baseline="optimized", variant="baseline")),
    "the runs": (TIME, lambda c: c["source"].update(run="pipeline-9")),
    "an earlier run away": (TIME, lambda c: c["source"].pop("also")),
    "the runs' digests": (TIME, lambda c: c["provenance"].pop("evidence")),
    "what was timed away": (TIME, lambda c: c["provenance"].pop("timed_by")),
    "the work": (TIME, lambda c: c["provenance"]["work"].update(flops=1)),
    "bound lower": (SHARE, lambda c: c["bound"].update(min=0.4)),
    "bound higher": (SHARE, lambda c: c["bound"].update(min=0.55)),
    "another end": (SHARE, lambda c: c["bound"].update(max=1.5)),
    "another metric": (SHARE, lambda c: c.update(metric="overlap.hidden")),
    "the spread between starts": (SHARE, lambda c: c["provenance"].update(between=0.5)),
}  # fmt: skip

REWORDED: dict[str, tuple[Any, Callable[[dict[str, Any]], object]]] = {
    "nothing": (TIME, lambda c: None),
    "id": (TIME, lambda c: c.update(id="another.name")),
    "why": (SHARE, lambda c: c.update(why="better words")),
    "the source's text": (TIME, lambda c: c["source"].update(text="on the quiet machine")),
    "numbers as people write them": (TIME, lambda c: c.update(max_ms={"optimized": 12.0, "baseline": 25.00})),
    "what is null anyway": (TIME, lambda c: c.update(statistic=None, predicted=None)),
    "order": (SHARE, lambda c: c.update(metric=c.pop("metric"), bound=c.pop("bound"))),
}


def read_again(claim: Any, edit: Callable[[dict[str, Any]], object]) -> Any:
    """`claim` from a file in which `edit` was made."""
    document = json.loads(json.dumps(claim_document(claim)))
    edit(document)
    text = json.dumps({"schema": "aisp-trace/expectations/2", "hardware_key": "h100", "claims": [document]}, indent=7)
    return parse(text, "f").claims[0]


@pytest.mark.parametrize(("claim", "edit"), EDITS.values(), ids=EDITS)
def test_an_edit_is_noticed_and_nothing_holds_by_it(claim: Any, edit: Callable[[dict[str, Any]], object]) -> None:
    made = read_again(claim, edit)
    assert not is_changed(claim) and is_changed(made)
    assert not is_changed(replace(made, provenance=replace(made.provenance, digest=None))), "an older bound, as before"


@pytest.mark.parametrize(("claim", "edit"), REWORDED.values(), ids=REWORDED)
def test_words_and_layout_are_anybodys(claim: Any, edit: Callable[[dict[str, Any]], object]) -> None:
    assert not is_changed(read_again(claim, edit))


def test_what_an_edited_bound_is_worth() -> None:
    """What it lets pass is undecided, what it does not stays missed, and both say what to do."""

    def found(edit: Callable[[dict[str, Any]], object]) -> list[tuple[str, str]]:
        claim = read_again(TIME, edit)
        return [(v.part, v.status) for v in judge([ExpectationFile("h100", (claim,))], evidence())]

    parts = ("speedup", "limits", "limits", "limits")
    assert found(lambda c: None) == [(part, "met") for part in parts]
    assert found(lambda c: c["max_ms"].update(baseline=250)) == [(part, "inconclusive") for part in parts]
    assert found(lambda c: c["ratio"].update(min=2.5))[0] == ("speedup", "missed")
    claim = read_again(TIME, lambda c: c["max_ms"].update(baseline=250))
    reason = judge([ExpectationFile("h100", (claim,))], evidence())[0].reason
    for words in (
        "the bound was edited by hand: it does not fit the digest that `accept` gave it",
        "set source.kind to 'definition'",
        "remove source.run, source.also and provenance",
        "`accept` a run with --allow-loosen",
    ):
        assert words in reason
    own = replace(claim, source=Source("definition", None, "as decided"), provenance=None)
    assert {v.status for v in judge([ExpectationFile("h100", (own,))], evidence())} == {"met"}


@pytest.mark.parametrize("factor", [10, 1], ids=["edited", "only the digest"])
def test_the_remedies_can_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], factor: int
) -> None:
    """Accepted, edited by hand, and accepted anew; also where the edit is just what the run says, and the digest alone is old."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_evidence, "analyses_of_run", lambda run: {"baseline": SERIAL, "optimized": HIDDEN})
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    def aisp(*args: object) -> tuple[int, str]:
        code = main([*map(str, args)])
        shown = capsys.readouterr()
        return code, " ".join((shown.out + shown.err).split())

    assert aisp("accept", run_at(tmp_path / "pipeline-1"), "--yes")[0] == 0
    file = tmp_path / "expectations" / "expectations_h100.json"
    later = run_at(tmp_path / "pipeline-2")
    assert aisp("check", later)[0] == 0
    document = json.loads(file.read_text())
    (claim,) = document["claims"]
    claim["max_ms"]["optimized"] *= factor
    claim["provenance"]["digest"] = claim["provenance"]["digest"] if factor > 1 else "0" * 64
    file.write_text(json.dumps(document))
    code, out = aisp("check", later)
    assert (code, "does not fit the digest" in out) == (3, True)
    before = state(tmp_path)
    assert (aisp("accept", later, "--yes")[0], state(tmp_path)) == (3, before)
    code, out = aisp("accept", later, "--yes", "--allow-loosen")
    assert (code, "pipeline-2 could not be decided by the bounds that it replaces: pipeline.faster (" in out) == (
        0,
        True,
    ), out
    assert aisp("check", run_at(tmp_path / "pipeline-3"))[0] == 0
