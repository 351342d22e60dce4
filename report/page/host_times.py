"""Two recordings by host time alone, where one or both have no device operations: iterations, and how long stages were open."""

from __future__ import annotations

from ...analyze.comparison.host_times import HostStage
from ...expectations.comparing.compare import HostComparison
from . import cells, text
from .blocks import Cell, Para, Row, Section, Table, section
from .sides import clipped
from .top import Ratio, Top, top_of_pair


def top_of_host(found: HostComparison, names: tuple[str, str]) -> Top:
    """The verdict: the untraced rounds where there are some, else the iterations' medians, else that there is nothing to say."""
    base, opt = names
    ratio = None
    lengths = (found.times.base, found.times.opt)
    if found.untraced is not None:
        timed = found.untraced
        said = f"{text.count(timed.ratio.n, 'untraced round')}; no bound was judged"
        ratio = Ratio(
            base, opt, timed.ratio.value, said, (timed.base_ns, timed.opt_ns), f"of one {timed.timed}, untraced"
        )
    elif lengths[0] is not None and lengths[1] is not None and found.times.median_ratio is not None:
        said = "medians of traced iterations on the host: no interval, no bound"
        times = (lengths[0].median_ns, lengths[1].median_ns)
        ratio = Ratio(base, opt, found.times.median_ratio, said, times, "on the host, traced; median")
    lacking = [name for name, has in zip(names, found.times.devices, strict=True) if not has]
    scope = (
        f"only host times can be compared, since no device operation of {' and of '.join(lacking)} was recorded: kernels, copies "
        "and idle time cannot"
    )
    cautions = [*(f"Not comparable: {one}" for one in found.objections), scope, *found.notes]
    return top_of_pair(ratio, (), cautions)


def host_section(found: HostComparison, names: tuple[str, str]) -> Section:
    """Each stage's time on both sides, what changed most first."""
    per = "of one iteration" if found.times.per == "iteration" else "of the whole window"
    heads = ["stage", *(f"{name} {what}" for what in ("n", "time") for name in names), "difference", "ratio"]
    rows = [_row(one) for one in found.times.stages]
    return section(
        "why",
        "What changed on the host",
        Para(f"Times are {per}, of all threads, and count nested stages, so that rows do not add up.", "why"),
        Table("host time of each stage", heads, rows, numbers=range(1, 7)) if rows else None,
    )


def _row(one: HostStage) -> Row:
    name = clipped(one.stage, 80) if one.status == "matched" else f"{clipped(one.stage, 80)} ({one.status})"
    there = ((one.base_instances, one.base_ns), (one.opt_instances, one.opt_ns))
    sign = "+" if one.difference > 0 else ""
    difference = Cell(f"{sign}{text.duration(one.difference)}".replace("-", "−"), one.difference)
    ratio = Cell(text.ABSENT if one.ratio is None else f"{text.significant(one.ratio)} ×", one.ratio)
    counts = (cells.count(n or None) for n, _ in there)
    times = (cells.time(ns if n else None) for n, ns in there)
    return Row([name, *counts, *times, difference, ratio])
