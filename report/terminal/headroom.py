"""What changes would gain, as text: for `predict`, and as a part of an analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ...analyze.findings.finding import capital
from ...analyze.findings.limits import most_words
from ...analyze.headroom.estimate import REFUSED, Base, Prediction
from ...analyze.headroom.helps import MEANING, NONE_PAYS, now_of, paying
from ...analyze.headroom.predicted import Predicted
from ...analyze.result import Analysis
from ...analyze.words import ms, percent
from ...expectations.judging.predictions import Outcome
from .console import Column, heading, print_table, say, say_wrapped

LEFT: Final = "left"

COLUMNS: Final = (
    Column("change", LEFT),
    Column("ms"),
    Column("gain"),
    Column("at most"),
    Column("with all above"),
    Column("grade", LEFT),
)

SHOWN: Final = 4
"""Changes that an analysis shows."""


def print_predicted(found: Predicted) -> None:
    """What an iteration takes, how well the trace replays, and what each change would make of it."""
    base = found.base
    say_wrapped(f"{found.text}: {_now(base)}")
    say_wrapped(_fit(base.structure_error, base.factor, base.untraced_ns))
    say()
    if not found.each:
        say_wrapped(f"{capital(NONE_PAYS)}.")
        return
    refused = {one.why for one in found.each if one.grade == REFUSED}
    if len(found.each) > 1 and len(refused) == 1 and all(one.grade == REFUSED for one in found.each):
        changes = ", ".join(" ".join(one.changes) for one in found.each)
        say_wrapped(f"No gain can be predicted, of {changes}: {refused.pop()}.")
        return
    now = base.now_ns
    rows = [_of(one, found.after.get(one.changes), now) for one in found.each]
    if found.together:
        rows.append(_of(found.together, None, now))
    print_table(list(COLUMNS), rows)
    for one in found.each:
        words = "; ".join(w for w in (one.why, *(one.assumes[-1:] if one.estimate_ns is not None else ())) if w)
        say_wrapped(words, f"{' '.join(one.changes)}: ", "  ")
    say()
    say_wrapped(MEANING)


def print_headroom(analysis: Analysis) -> None:
    """What would help, where the trace says: the changes that pay, the largest gain first."""
    for on in analysis.replayed.iter_rows(named=True):
        _print_headroom(analysis, on)


def _print_headroom(analysis: Analysis, on: Mapping[str, Any]) -> None:
    if on["found_by"] is None:
        return
    say()
    if on["why"]:
        say_wrapped(f"What would help: no gain can be predicted: {on['why']}{most_words(analysis)}")
        return
    now = now_of(on)
    pays = paying(analysis.headroom, now)
    fit = _fit(on["structure_error"], on["host_factor"], on["untraced_ns"])
    if pays.is_empty():
        say_wrapped(f"What would help: {NONE_PAYS} ({fit})")
        return
    heading(f"What would help {_length(on)}:")
    rows = [
        _row(r["change"], r["estimate_ns"], r["at_most_ns"], r["after_ns"], r["grade"], now)
        for r in pays.head(SHOWN).iter_rows(named=True)
    ]
    print_table(list(COLUMNS), rows)
    say_wrapped(f"{fit}; `aisp-trace predict` says what each change assumes, and tries others")


def print_outcome(one: Outcome) -> None:
    """What came of a prediction: as a whole, stage by stage where it differs, and what a replay cannot know."""
    changes = ", then ".join(one.changes)
    say_wrapped(
        f"prediction: {changes} was to make {one.variant} {one.predicted:.2f}x as fast as {one.baseline} ({one.grade}, from "
        f"{one.run}); it is {one.measured:.2f}x: {_gained(one)}"
    )
    if one.stages:
        rows = [(s.stage, f"{s.predicted_ms:,.3f}", f"{s.measured_ms:,.3f}", s.said) for s in one.stages]
        titles = (Column("ms"), Column("measured"), Column("the change saved", LEFT))
        print_table([Column("critical path by stage, predicted", LEFT, shrink=True), *titles], rows)
    for sentence in one.unknown:
        say_wrapped(f"not in the prediction: {sentence}")


def _gained(one: Outcome) -> str:
    return f"{one.gained} ({100 * one.error:+.1f} %)"


def _length(on: Mapping[str, Any]) -> str:
    traced = f"{ms(on['base_ns'])} ms"
    if on["found_by"] == "window":
        return f"the window of {traced} (no iterations were found)"
    untraced = on["untraced_ns"]
    return f"an iteration of {traced} (traced)" if untraced is None else f"an iteration of {ms(untraced)} ms (untraced)"


def _now(base: Base) -> str:
    many = len(base.situation.host)
    if base.whole:
        return f"no iterations were found, so the whole window counts as one, {ms(base.ns)} ms while it is traced"
    if base.untraced_ns is None:
        return f"an iteration takes {ms(base.ns)} ms while it is traced, the mean of {many:,}"
    return f"an iteration takes {ms(base.untraced_ns)} ms untraced ({ms(base.ns)} ms traced)"


def _fit(error: float, factor: float | None, untraced_ns: int | None) -> str:
    fit = f"the replay reproduces the recording exactly, and with every latency at its median within {percent(error)}"
    if untraced_ns is not None and factor is not None:
        fit += f"; host times are scaled by {factor:.2f} to match the untraced rounds"
    return fit


def _of(one: Prediction, after: int | None, now: int) -> tuple[str, ...]:
    return _row(" then ".join(one.changes), one.estimate_ns, one.at_most_ns, after, one.grade, now)


def _row(
    change: str, estimate: int | None, at_most: int | None, after: int | None, grade: str, now: int
) -> tuple[str, ...]:
    if estimate is None or at_most is None:
        return change, "-", "-", "-", "-", grade
    gains = (f"{now / ns:.2f}x" if ns else "-" for ns in (estimate, at_most, after))
    return change, ms(estimate), *gains, grade
