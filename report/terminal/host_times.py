"""Two recordings by host time, at most 80 columns wide: what can be compared, iterations, stages, and what to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...analyze.comparison.host_times import HostStage, HostTimes
from ...analyze.words import duration, ms, shorten
from ...expectations.comparing.compare import Compared, HostComparison
from ...expectations.judging.between import Untraced
from .console import Column, print_table, say, say_wrapped

LEFT: Final = "left"

STAGES: Final = 16
"""Stages listed; --json has all."""

NAME: Final = 40
"""Columns for a side's name in a sentence."""


def print_host_times(found: Compared, speed_words: Callable[[Untraced], str]) -> None:
    """Print every pair, the first line saying that only host times are known; `speed_words` are those of untraced rounds."""
    for number, c in enumerate(found.host):
        if number:
            say()
        if len(found.host) > 1:
            say(f"== {c.base.name} -> {c.opt.name}")
        say_wrapped(scope(c), rest="")
        for sentence in c.objections:
            say_wrapped(f"NOT COMPARABLE, {sentence}.")
        if c.untraced is not None:
            say_wrapped(f"untraced: {speed_words(c.untraced)}")
        lines = _iterations(c.times)
        for line in lines:
            say(line)
        if lines and c.untraced is not None:
            say_wrapped("iteration times are from one recording each; go by the untraced rounds")
        _print_stages(c.times)
        say("")
        for note in c.notes:
            say_wrapped(f"note: {note}.")


def scope(c: HostComparison) -> str:
    """What can be compared and what cannot, in a sentence or two."""
    names = [shorten(side.analysis.meta.file, NAME) for side in (c.base, c.opt)]
    if not any(c.times.devices):
        return (
            "Only host times are known: neither side has device operations. Iterations and stages are compared by how long "
            "their ranges were open; kernels, copies and idle time cannot be."
        )
    lacking, has = ("base", "opt") if c.times.devices[1] else ("opt", "base")
    name = names[0] if lacking == "base" else names[1]
    return (
        f"Only host times can be compared: {lacking} ({name}) has no device operations, {has} has. Iterations and stages are "
        "compared by how long their ranges were open; kernels, copies, idle time and its causes cannot be."
    )


def _iterations(times: HostTimes) -> list[str]:
    if times.base is None or times.opt is None:
        return []
    lines = []
    for word, base, opt, ratio in (
        ("median", times.base.median_ns, times.opt.median_ns, times.median_ratio),
        ("mean", times.base.mean_ns, times.opt.mean_ns, times.mean_ratio),
    ):
        figure = "" if ratio is None else f", {ratio:.2f}x"
        lines.append(f"{word + ' iteration:':<17} {duration(base)} -> {duration(opt)}{figure}")
    n, m = times.base, times.opt
    lines.append(
        f"iterations:       {n.n:,} ({duration(n.min_ns)} to {duration(n.max_ns)}) -> {m.n:,} ({duration(m.min_ns)} to "
        f"{duration(m.max_ns)})"
    )
    return lines


def _print_stages(times: HostTimes) -> None:
    if not times.stages:
        say('no stages were recorded; name some: `with stage("name"):`')
        return
    rows = [_row(one) for one in times.stages[:STAGES]]
    say("")
    columns = [Column("stage (host ms)", LEFT, shrink=True), Column("base n"), Column("opt n"), Column("base")]
    print_table([*columns, Column("opt"), Column("diff"), Column("ratio")], rows)
    if left := len(times.stages) - len(rows):
        say(f"and {left:,} stages that changed less; --json lists them")
    per = "of one iteration" if times.per == "iteration" else "of the whole window"
    say_wrapped(f"times are {per}, of all threads, and count nested stages, so that rows do not add up", rest="")


def _row(one: HostStage) -> tuple[object, ...]:
    name = one.stage if one.status == "matched" else f"{one.stage} ({one.status})"
    counts = [f"{n:,}" if n else None for n in (one.base_instances, one.opt_instances)]
    base, opt = (
        ms(ns) if n else None for ns, n in ((one.base_ns, one.base_instances), (one.opt_ns, one.opt_instances))
    )
    sign = "+" if one.difference > 0 else ""
    return (name, *counts, base, opt, f"{sign}{ms(one.difference)}", None if one.ratio is None else f"{one.ratio:.2f}x")
