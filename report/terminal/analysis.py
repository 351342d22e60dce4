"""An analysis as tables for people, at most 80 columns wide."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

import polars as pl

from ...analyze.accounts.diagnostics import quoted
from ...analyze.findings.beside import slowed
from ...analyze.findings.first_lines import steady_sentences, where_sentences
from ...analyze.findings.missing import missing_sentences
from ...analyze.result import IDLE, Analysis
from ...analyze.words import duration, ms, percent, rate, shorten, size
from ...traces.phases import PHASES, STAGES
from ...traces.repairs import repairs
from ...traces.stage_domain import OPERATORS
from ..palette import MEANINGS
from ..replayed import path_doubt, replay_sentences
from .console import Column, Painted, heading, print_table, say, say_wrapped
from .details import longest, print_details, print_device_details, print_gap_calls, print_gap_functions
from .findings import Beside, print_findings
from .headroom import print_headroom
from .look import hue
from .stages import print_stages

LEFT: Final = "left"

STAGE_WIDTH: Final = 52
"""Columns for a stage in a sentence: a path may be megabytes long."""


def print_analysis(analysis: Analysis, beside: Beside | None = None) -> None:
    """Print everything a person asks first, in the order they ask it: where did the time go, what was hidden, can I trust it."""
    print_first_lines(analysis, beside)
    print_headroom(analysis)
    for row in analysis.devices.iter_rows(named=True):
        _print_device(analysis, row["device"], row["name"])
    _print_critical(analysis)
    _print_operators(analysis)
    _print_calls(analysis)
    print_stages(analysis)
    _print_replays(analysis)
    _print_domains(analysis)
    _print_unread(analysis)
    _print_bandwidth(analysis)
    _print_allocator(analysis)
    print_details(analysis)
    _print_trust(analysis)
    say()


def print_overview(analysis: Analysis) -> None:
    """The first lines, what would help, where each device's time went, and what cannot be trusted."""
    print_first_lines(analysis)
    print_headroom(analysis)
    for row in analysis.devices.head(DEVICES).iter_rows(named=True):
        _print_ledger(analysis, row["device"], row["name"])
    if (more := len(analysis.devices) - DEVICES) > 0:
        say(f"and {more} more devices")
    _print_trust(analysis)


def print_first_lines(analysis: Analysis, beside: Beside | None = None) -> None:
    """What was recorded, what is counted, and what is slow, in words."""
    meta = analysis.meta
    title = meta.file if analysis.variant is None else f"{analysis.variant} ({meta.file})"
    heading(f"{title}: {meta.recorder} {meta.recorder_version}")
    where, several = list(where_sentences(analysis)), analysis.windows.height > 1
    for sentence in (*missing_sentences(analysis), *steady_sentences(analysis), *([] if several else where)):
        say_wrapped(sentence)
    print_findings(analysis, beside)
    for sentence in where if several else ():  # of several devices the findings say more, so they go first
        say()
        say_wrapped(sentence)


MESSAGES: Final = 5
DEVICES: Final = 8
DOMAINS: Final = 5
CALLS: Final = 12
CRITICAL: Final = 6
"""Rows that are shown; --json has all."""


def _print_domains(analysis: Analysis) -> None:
    """Which domain the stages are of, unless they are the program's own or phases, and the domains whose ranges are none."""
    chosen = analysis.choices.domain
    if chosen not in ("", STAGES, PHASES):
        say_wrapped(
            f"the stages are {'PyTorch operators' if chosen == OPERATORS else 'ranges'} (domain {shorten(chosen, STAGE_WIDTH)})"
        )
    others = [row for row in analysis.domains.rows() if row[0] != chosen]
    if others:
        named = [f"{shorten(name, STAGE_WIDTH) or 'the default one'} ({count:,})" for name, count in others[:DOMAINS]]
        more = f" and {len(others) - DOMAINS} more" if len(others) > DOMAINS else ""
        taken = shlex.quote(next((name for name, _ in others if name), ""))
        whose = "NVTX domains" if analysis.meta.recorder == "nsys" else "domains"
        say_wrapped(f"ranges of other {whose}: {', '.join(named)}{more}; --domain {taken} makes them the stages")


def _print_replays(analysis: Analysis) -> None:
    """What CUDA graphs replay of other stages."""
    for sentence in replay_sentences(analysis):
        say_wrapped(sentence)


def _print_critical(analysis: Analysis) -> None:
    """The critical path, where a device had work."""
    path = analysis.critical
    if path.is_empty():
        return
    total = int(path["ns"].sum())
    rows: list[tuple[object, ...]] = [
        (_painted(row["cause"] or row["category"]), ms(row["ns"]), percent(row["ns"] / total), row["stage"])
        for row in path.head(CRITICAL).iter_rows(named=True)
    ]
    if (rest := total - int(path["ns"].head(CRITICAL).sum())) > 0:
        rows.append((f"{len(path) - CRITICAL:,} more", ms(rest), percent(rest / total), ""))
    say()
    columns = [Column("critical path", LEFT), Column("ms"), Column("share"), Column("stage", LEFT, shrink=True)]
    print_table([*columns], [*rows, ("total", ms(total), percent(1.0), "")])
    if doubt := path_doubt(analysis):
        say_wrapped(doubt)


def _painted(name: str) -> Painted:
    """A kind or cause in its colour; ``host`` and ``wait`` of the critical path have none."""
    return Painted(name, hue(name) if name in MEANINGS else "")


def _print_operators(analysis: Analysis) -> None:
    """Where no operation of a device was recorded, what PyTorch ran."""
    if analysis.operators.is_empty() or not (analysis.devices.is_empty() or analysis.host_only):
        return
    rows = [
        (row["name"], f"{row['calls']:,}", *(ms(row[ns]) for ns in ("sum_ns", "self_ns", "outside_ns")))
        for row in analysis.operators.head(CALLS).iter_rows(named=True)
    ]
    say()
    numbers = [Column(title) for title in ("n", "ms", "own ms", "in no stage")]
    print_table([Column("operator, all threads", LEFT, shrink=True), *numbers], rows)
    if len(analysis.operators) > CALLS:
        say(f"and {len(analysis.operators) - CALLS:,} more in --json")


def _print_unread(analysis: Analysis) -> None:
    """Events of kinds that nothing here reads, and what of the file had to be repaired."""
    for sentence in repairs(analysis.meta.anomalies):
        say_wrapped(sentence)
    unread = sorted(analysis.meta.unread.items(), key=lambda one: -one[1])
    if unread:
        named = [f"{shorten(name, STAGE_WIDTH)} ({count:,})" for name, count in unread[:DOMAINS]]
        more = f" and {len(unread) - DOMAINS} more kinds" if len(unread) > DOMAINS else ""
        say_wrapped(f"events that are not read: {', '.join(named)}{more}")


def _print_calls(analysis: Analysis) -> None:
    """Where no device operation was recorded, what the host called."""
    if analysis.api_calls.is_empty():
        return
    rows = [
        (name, f"{calls:,}", ms(total), duration(longest))
        for name, calls, total, longest in analysis.api_calls.head(CALLS).rows()
    ]
    say()
    print_table([Column("calls, all threads", LEFT, shrink=True), Column("n"), Column("ms"), Column("longest")], rows)


def _print_device(analysis: Analysis, device: int, name: str) -> None:
    start, length = _print_ledger(analysis, device, name)
    _print_overlap(analysis, device)
    _print_gaps(analysis, device, start, length)
    print_device_details(analysis, device)


def _print_ledger(analysis: Analysis, device: int, name: str) -> tuple[int, int]:
    """Where the window of `device` went; returns its start and length in ns."""
    here = pl.col("device") == device
    window = analysis.windows.filter(here).row(0, named=True)
    length = window["end_ns"] - window["start_ns"]
    say()
    what = "host" if analysis.host_only and analysis.windows.height == 1 else f"device {device} {name}"
    heading(f"{what}: window {duration(length)}{_after(analysis, window['start_ns'])}")
    cells = (
        analysis.ledger.filter(here).group_by("category", "cause").agg(pl.col("ns").sum()).sort("ns", descending=True)
    )
    unions = {r["kind"]: r for r in analysis.kinds.filter(here).iter_rows(named=True)}
    rows: list[tuple[object, ...]] = []
    for cell in cells.iter_rows(named=True):
        kind = unions.get(cell["category"])
        what = cell["category"] if cell["cause"] is None else f"{IDLE}: {cell['cause']}"
        rows.append(
            (
                Painted(what, _painted(cell["cause"] or cell["category"]).style),
                ms(cell["ns"]),
                percent(cell["ns"] / length),
                None if kind is None else kind["ops"],
                None if kind is None else ms(kind["union_ns"]),
                None if kind is None or not kind["nbytes"] else size(kind["nbytes"]),
            )
        )
    rows.append(("total", ms(length), percent(1.0), None, None, None))
    columns = [Column("where the time went", LEFT), Column("ms"), Column("share")]
    print_table([*columns, Column("ops"), Column("union ms"), Column("bytes")], rows)
    return window["start_ns"], length


def _after(analysis: Analysis, start: int) -> str:
    """Where the window begins, counted as gaps and ``--window +a:+b`` are; nothing where no operation is known."""
    first = analysis.first_op_ns
    if first is None:
        return ""
    return " from the first operation on" if start == first else f" from {_counted(start - first)}"


def _counted(ns: int) -> str:
    """An instant counted from the first operation, as ``--window +a:+b`` takes it; words where it lies before."""
    return f"+{duration(ns)}" if ns >= 0 else f"{duration(-ns)} before the first operation"


def _print_overlap(analysis: Analysis, device: int) -> None:
    whole = analysis.overlap.filter((pl.col("device") == device) & pl.col("stage").is_null() & (pl.col("a_ns") > 0))
    rows = [
        (f"{r['a']} under {r['b']}", ms(r["a_ns"]), ms(r["both_ns"]), percent(r["hidden"]), percent(r["efficiency"]))
        for r in whole.iter_rows(named=True)
        if r["b_ns"]
    ]
    if rows:
        say("")
        print_table(
            [Column("overlap", LEFT), Column("ms"), Column("hidden ms"), Column("hidden"), Column("of ideal")], rows
        )
    for line in slowed(analysis, device):
        say_wrapped(line)
    if rows:
        return
    moved = not whole.filter(pl.col("a") == "copy").is_empty()
    if moved or not analysis.host_only:
        say()
        say("overlap: nothing ran beside the copies" if moved else "overlap: no copies")


def _print_gaps(analysis: Analysis, device: int, start: int, length: int) -> None:
    """Only gaps that matter by themselves: above 5 % of the window. They count from the first op, as `--window` takes them."""
    origin = start if analysis.first_op_ns is None else analysis.first_op_ns
    large = analysis.gaps.filter((pl.col("device") == device) & (pl.col("ns") > length // 20))
    for gap in large.head(5).iter_rows(named=True):
        say_wrapped(
            f"one gap of {duration(gap['ns'])} ({percent(gap['ns'] / length)}) at {_counted(gap['start_ns'] - origin)}: "
            f"{gap['cause']} in {shorten(gap['stage'], STAGE_WIDTH)}, opened by {gap['opened_by']}"
        )
        print_gap_calls(analysis, device, gap["start_ns"])
        print_gap_functions(analysis, device, gap["start_ns"])


def _print_bandwidth(analysis: Analysis) -> None:
    """A table for each device that copied; its number stands above where there are several."""
    several = analysis.bandwidth["device"].n_unique() > 1
    for (device,), copies in analysis.bandwidth.group_by("device", maintain_order=True):
        say()
        if several:
            say(f"copies of device {device}")
        _print_copies(copies)


def _print_copies(copies: pl.DataFrame) -> None:
    rows = []
    for r in copies.iter_rows(named=True):
        ends = f"{r['src_kind'] or '?'} to {r['dst_kind'] or '?'}"
        of_peak = "effective" if r["effective"] else percent(r["share"])
        rates = (rate(r["bytes_per_s"]), rate(r["expected_bytes_per_s"]))
        rows.append((r["kind"], ends, r["bucket"], r["ops"], size(r["nbytes"]), *rates, of_peak))
    columns = [Column("copies", LEFT), Column("memory", LEFT, shrink=True), Column("size", LEFT)]
    figures = ("n", "bytes", "GB/s", "expected", "of peak")
    print_table([*columns, *(Column(title) for title in figures)], rows)
    for line in _peaks(copies):
        say(line)


def _peaks(copies: pl.DataFrame) -> list[str]:
    """Each peak that shares were taken of, with its source: ``peak h2d: 55.31 GB/s (calibration 2026-11-22)``."""
    known = copies.filter(pl.col("peak_bytes_per_s").is_not_null())
    peaks = known.select("kind", "peak_bytes_per_s", "peak_source").unique(maintain_order=True)
    return [f"peak {kind}: {rate(peak)} GB/s ({source})" for kind, peak, source in peaks.iter_rows()]


def _print_allocator(analysis: Analysis) -> None:
    used = analysis.allocator.filter((pl.col("calls") > 0) | (pl.col("stall_ns") > 0))
    most = longest(used, "stall_ns", "host_ns")
    rows = [(r["stage"], r["calls"], ms(r["host_ns"]), ms(r["stall_ns"])) for r in most.iter_rows(named=True)]
    if rows:
        say("")
        columns = [
            Column("allocator", LEFT, shrink=True),
            Column("calls"),
            Column("host ms"),
            Column("device stalled ms"),
        ]
        print_table(columns, rows)
        if left := len(used) - len(rows):
            say(f"and {left:,} stages that stalled less")


def _print_trust(analysis: Analysis) -> None:
    doubts = analysis.trust.filter(pl.col("level") != "ok")
    warned = list(unsaid(analysis))
    if doubts.is_empty() and not warned:
        return
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in doubts.iter_rows(named=True):
        by_reason.setdefault((row["level"], row["reason"]), []).append(row["metric"])
    say("")
    for (level, reason), metrics in by_reason.items():
        say_wrapped(f"{level}: {', '.join(metrics)} ({reason})")
    for severity, text, times in warned[:MESSAGES]:
        verb = "reports an error" if severity == "error" else "warns"
        often = f" ({times:,} times)" if times > 1 else ""
        say_wrapped(f"{analysis.meta.recorder} {verb}: {quoted(text)}{often}")
    if len(warned) > MESSAGES:
        say(f"and {len(warned) - MESSAGES:,} more such messages in --json")


def unsaid(analysis: Analysis) -> Iterator[tuple[str, str, int]]:
    """(severity, text, times) of the recorder's messages on what may be missing, without those that a reason of trust quotes."""
    reasons = [" ".join(reason.split()) for reason in analysis.trust["reason"].to_list()]
    for severity, text, times in (
        analysis.diagnostics.filter("incomplete").select("severity", "text", "times").iter_rows()
    ):
        if not any(quoted(text) in reason for reason in reasons):
            yield severity, text, times
