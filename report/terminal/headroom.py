"""Predictions as text."""

from __future__ import annotations

from ...analyze.headroom.estimate import Prediction
from ...analyze.headroom.predicted import Predicted
from ...analyze.words import ms, percent
from .console import Column, print_table, say, say_wrapped


def print_predicted(found: Predicted) -> None:
    """What an iteration takes, how well the trace replays, and what each change would make of it."""
    base = found.base
    now = base.untraced_ns or base.ns
    many = len(base.situation.bounds)
    said = f"{found.text}: an iteration takes {ms(now)} ms"
    said += f" untraced ({ms(base.ns)} ms traced)" if base.untraced_ns is not None else " while it is traced"
    said += f", the mean of {many}" if base.untraced_ns is None else ""
    say_wrapped(said)
    fits = (
        "check: replayed unchanged, the recording is reproduced exactly; with every latency at its median it is "
        f"{percent(base.structure_error)} off"
    )
    if base.untraced_ns is not None and base.factor is not None:
        fits += f"; host times are scaled by {base.factor:.2f} to match the untraced rounds"
    say_wrapped(fits)
    say()
    if not found.each:
        say("No known change would save 1 % or more.")
        return
    rows = [_row(one, now) for one in (*found.each, *([found.together] if found.together else []))]
    columns = [Column("change", "left"), Column("ms"), Column("gain"), Column("at most"), Column("grade", "left")]
    print_table(columns, rows)
    for one in found.each:
        words = one.why if one.estimate_ns is None else one.assumes[-1]
        say_wrapped(words, f"{' '.join(one.changes)}: ", "  ")
    say()
    say_wrapped(
        "at most: the gain if the host took no time and kernels ran as recorded; the time is usually within 3 % for an estimate, "
        "within 20 % for an indicative one"
    )


def _row(one: Prediction, now: int) -> tuple[str, str, str, str, str]:
    name = " then ".join(one.changes)
    if one.estimate_ns is None or one.at_most_ns is None:
        return name, "-", "-", "-", one.grade
    return name, ms(one.estimate_ns), f"{now / one.estimate_ns:.2f}x", f"{now / one.at_most_ns:.2f}x", one.grade
