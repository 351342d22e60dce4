"""`kernels verify` on the terminal: the verdict first, then its evidence."""

from __future__ import annotations

from collections.abc import Sequence

from ...kernels.verify.result import KernelRow, Timing, Verification, WorstCase
from .console import Column, print_table, say, say_wrapped

REASONS_SHOWN = 12
KERNELS_SHOWN = 8


def print_verification(found: Verification) -> None:
    """Print everything about one verification."""
    say(f"{found.candidate['file']}: {found.headline}")
    say(f"task {found.task}, {found.dtype}, on {found.device}")
    _print_reasons(found)
    if found.worst is not None:
        say()
        _print_worst(found.worst, found.compared)
    if found.timings:
        say()
        _print_timings(found.timings)
    if found.kernels:
        say()
        _print_kernels(found.kernels)
    say()
    rows = [("checked" if one.done else "not checked", one.what, one.result) for one in found.checks]
    print_table([Column("", "left"), Column("what", "left", wrap=True), Column("how", "left", wrap=True)], rows)
    for note in found.notes:
        say_wrapped(note, "note: ")


def _print_reasons(found: Verification) -> None:
    if not found.reasons:
        return
    say()
    for one in found.reasons[:REASONS_SHOWN]:
        say_wrapped(one.text + (f" ({one.calls} times)" if one.calls > 1 else ""), f"{one.code}: ")
    if len(found.reasons) > REASONS_SHOWN:
        say(f"and {len(found.reasons) - REASONS_SHOWN} more reasons; --json has them all")


def _print_worst(worst: WorstCase, compared: int) -> None:
    where = f"{worst.output} at {worst.shape}, {worst.kind} values, {worst.place}"
    say_wrapped(f"worst of {compared} outputs: {where}")
    say(f"  error {_error(worst.norm)} of the whole, {worst.norm_allowed:.3g} allowed")
    at = ", ".join(map(str, worst.element))
    say(f"  worst element {_error(worst.worst)}, {worst.worst_allowed:.3g} allowed: [{at}] is {worst.found:.6g},")
    say(f"  where {worst.expected:.6g} is right")


def _error(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _print_timings(timings: Sequence[Timing]) -> None:
    columns = [
        Column("timed shape", "left", shrink=True),
        *(
            Column(title)
            for title in ("calls", "kernels", "trace us", "low", "high", "events us", "floor us", "of peak")
        ),
    ]
    rows = [
        (
            one.shape,
            one.calls,
            None if one.kernels is None else f"{one.kernels:g}",
            *map(_us, (one.time_ns, one.low_ns, one.high_ns, one.event_ns, one.floor_ns)),
            None if one.share_of_peak is None else f"{100 * one.share_of_peak:.0f} %",
        )
        for one in timings
    ]
    print_table(columns, rows)


def _us(ns: float | None) -> str | None:
    return None if ns is None else f"{ns / 1e3:.1f}"


def _print_kernels(kernels: Sequence[KernelRow]) -> None:
    columns = [
        Column("kernel", "left", shrink=True),
        Column("launches"),
        Column("us a launch"),
        Column("whose", "left"),
    ]
    rows = [
        (one.name, one.launches, f"{one.sum_ns / one.launches / 1e3:.1f}", _whose(one))
        for one in kernels[:KERNELS_SHOWN]
    ]
    print_table(columns, rows)


def _whose(one: KernelRow) -> str:
    if one.library:
        return one.library
    return {True: "its own", False: "not in its source", None: "no known library's"}[one.own]
