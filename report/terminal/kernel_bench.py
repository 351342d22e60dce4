"""`kernels bench` and `kernels search` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...kernels.bench.result import KERNEL, NOT_VERIFIED, Bench, Measurement, Searched, Tried
from ...kernels.task import Settings
from ...traces.figures import significant
from .console import Column, print_table, say, say_wrapped

SHOWN = 10


def print_bench(found: Bench) -> None:
    """One table over all shapes, then where the limits are from, and what has to be said."""
    parameters = found.kernel["parameters"]
    kernel = found.kernel["file"] + (f" ({settings_text(parameters)})" if parameters else "")
    say(f"{found.task}, {found.dtype}, on {found.device}: {kernel}, {found.verification}")
    say()
    columns = [Column("shape", "left", shrink=True), Column("what", "left")]
    columns += [
        Column(t) for t in ("trace us", "events us", "low", "high", "kernels", "of limit", "x kernel", "mJ a call")
    ]
    columns.append(Column("", "left", wrap=True))
    rows, before = [], ""
    for one in sorted(found.measurements, key=lambda m: [s.shape for s in found.shapes].index(m.shape)):
        ours = found.of(KERNEL, one.shape)
        rows.append(("" if one.shape == before else one.shape, *_cells(one, ours), _remark(one, found.verification)))
        before = one.shape
    print_table(columns, rows)
    say()
    if found.limits is not None:
        _print_limits(found)
    for note in found.notes:
        say_wrapped(note, "note: ")


def _cells(one: Measurement, ours: Measurement | None) -> tuple[str | None, ...]:
    times = None if ours is None or not ours.time_ns or not one.time_ns else f"{one.time_ns / ours.time_ns:.2f}"
    recorded = _us(one.trace_ns) or ("not recorded" if one.event_ns is not None else None)
    energy = None if one.energy_j is None else significant(one.energy_j * 1e3, 3)
    return (
        one.implementation,
        recorded,
        _us(one.event_ns),
        _us(one.event_low_ns),
        _us(one.event_high_ns),
        None if one.kernels is None else f"{one.kernels:g}",
        _share(one.share_of_limit),
        times,
        energy or ("not measured" if one.event_ns is not None else None),
    )


def _remark(one: Measurement, verification: str) -> str:
    words = [one.problem] if one.problem else []
    if one.is_wrong:
        words.append("WRONG: its output is outside the tolerance")
    if one.implementation == KERNEL and verification != "verified":
        words.append(NOT_VERIFIED if verification.startswith(NOT_VERIFIED) else verification)
    return "; ".join(words)


def _print_limits(found: Bench) -> None:
    limits = found.limits or {}
    rate = f"{limits['bytes_per_s'] / 1e12:.2f} TB/s ({limits['bytes_source']})"
    flops = limits["flops_per_s"]
    peak = limits["flops_source"] if flops is None else f"{flops / 1e12:.1f} TFLOP/s ({limits['flops_source']})"
    say_wrapped(f"limit: the longer of required bytes at {rate} and required FLOPs at {peak}", rest="  ")
    for bound in sorted({one.bound for one in found.shapes}):
        shapes = [one.shape for one in found.shapes if one.bound == bound]
        say_wrapped(f"bound by {bound}: {'; '.join(shapes)}", rest="  ")


def _us(ns: float | None) -> str | None:
    return None if ns is None else f"{ns / 1e3:.1f}"


def _share(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"


# -- search ------------------------------------------------------------------------------------------------------------


def print_search(found: Searched, defaults: Settings) -> None:
    """The best ten, what the defaults take, what the verifier said, and how to write the best again."""
    right = [one for one in found.tried if not one.problem]
    say(f"{found.task}, {found.dtype}, {'; '.join(found.shapes)}")
    say_wrapped(
        f"{len(found.tried)} of {found.valid} valid combinations tried in {found.seconds:.0f} s"
        + (f", {len(found.failed)} of them failed" if found.failed else "")
    )
    say()
    shown = right[:SHOWN]
    mine = next((one for one in found.tried if dict(one.settings) == dict(defaults)), None)
    if mine is not None and not mine.problem and mine not in shown:
        shown.append(mine)
    _print_tried(found, shown, defaults)
    if mine is not None and mine.problem:
        say_wrapped(f"the defaults failed: {mine.problem}")
    for one in found.failed[:SHOWN]:
        say_wrapped(f"{settings_text(one.settings)}: {one.problem}", "failed: ")
    if len(found.failed) > SHOWN:
        say(f"and {len(found.failed) - SHOWN} more that failed")
    for note in found.notes:
        say_wrapped(note, "note: ")
    if found.best is None:
        say_wrapped("Nothing could be verified, so no winner is named.")
        return
    say()
    say_wrapped(f"best, verified: {settings_text(found.best.tried.settings)}")
    say(emit_line(found.task, found.best.tried.settings, defaults))


def _print_tried(found: Searched, shown: Sequence[Tried], defaults: Settings) -> None:
    checked = {id(one.tried): one for one in found.verified}
    columns = [Column("", "right"), Column("parameters", "left", wrap=True), Column("events us"), Column("of limit")]
    columns += [Column("trace us"), Column("of limit"), Column("verifier", "left", wrap=True)]
    rows = []
    for one in shown:
        place = "defaults" if dict(one.settings) == dict(defaults) else str(shown.index(one) + 1)
        verified = checked.get(id(one))
        traced = () if verified is None else verified.trace_ns
        rows.append(
            (
                place,
                settings_text(one.settings),
                tuple(f"{ns / 1e3:.1f}" for ns in one.event_ns),
                _shares(one.event_ns, found.limits_ns),
                tuple("not recorded" if ns is None else f"{ns / 1e3:.1f}" for ns in traced) or None,
                _shares(traced, found.limits_ns) or None,
                None if verified is None else verified.headline,
            )
        )
    print_table(columns, rows)


def _shares(times: Sequence[float | None], limits_ns: Sequence[float]) -> tuple[str, ...]:
    return tuple("-" if not ns else f"{100 * limit / ns:.0f} %" for ns, limit in zip(times, limits_ns, strict=False))


def print_unsearched(task: str, defaults: Settings) -> None:
    """What there is without a GPU."""
    say_wrapped("Nothing was searched: that takes a GPU, and torch sees none here. The defaults are not measured:")
    for name, value in defaults.items():
        say(f"  {name} = {value}")
    say(emit_line(task, defaults, defaults))


def settings_text(settings: Settings) -> str:
    """``threads=256 unroll=4``."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def emit_line(task: str, settings: Settings, defaults: Mapping[str, int | str]) -> str:
    """The command that writes this kernel."""
    changed = [f"--set {name}={value}" for name, value in settings.items() if value != defaults[name]]
    return " ".join(["aisp-trace kernels emit", task, f"-o {task}.cu", *changed])
