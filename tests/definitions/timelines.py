"""What the figures share: a device's time, piece by piece, as the analysis gives it to one cell each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import IDLE
from aisp_trace.tests.definitions.drawing import Bar
from aisp_trace.tests.oracle.build import Row, call
from aisp_trace.traces.model import Trace

US = 1_000
LAUNCH = "cudaLaunchKernel"
SYNC = "cudaStreamSynchronize"
SHORT = {LAUNCH: "launch", "cudaGraphLaunch": "graph launch", "cudaMemcpyAsync": "memcpy"}
"""Calls whose names are longer than their bars."""


def pieces(
    trace: Trace, low: int, high: int, *, at: Iterable[int] = (), device: int = 0, **choices: Any
) -> list[tuple[int, int, str, str, str | None]]:
    """`[low, high)` as (start, end, stage, category, cause), from one analysis of every stretch between two instants.

    The instants are all starts and ends of the trace, and `at`. A stretch that the analysis cuts further is an error: the drawing
    would be wrong there.
    """
    instants = sorted({low, high, *at, *_instants(trace)})
    found = []
    for a, b in pairwise(t for t in instants if low <= t <= high):
        ledger = analyze(trace, window=(a, b), **choices).ledger.filter(device=device)
        ((stage, category, cause, ns),) = ledger.select("stage", "category", "cause", "ns").rows()
        assert ns == b - a
        found.append((a, b, stage, category, cause))
    return found


def _instants(trace: Trace) -> Iterator[int]:
    for table in (trace.ops, trace.api, trace.ranges, trace.osrt):
        for name in ("start_ns", "end_ns"):
            yield from table[name].drop_nulls().to_list()


def ledger(trace: Trace, low: int, high: int, **more: Any) -> list[Bar]:
    """The pieces as bars, named by the kind of work or by the cause."""
    return _merged(Bar(a, b, cause or kind, cause or kind) for a, b, _, kind, cause in pieces(trace, low, high, **more))


def stages(trace: Trace, low: int, high: int, *, idle: bool = True, **more: Any) -> list[Bar]:
    """The pieces as bars, named by their stage; without `idle` only those in which the device works."""
    kept = [piece for piece in pieces(trace, low, high, **more) if idle or piece[3] != IDLE]
    return _merged(Bar(a, b, stage) for a, b, stage, _, _ in kept)


def _merged(bars: Iterable[Bar]) -> list[Bar]:
    """Neighbours with one text as one bar."""
    made: list[Bar] = []
    for bar in bars:
        if made and made[-1].end == bar.start and made[-1].text == bar.text:
            made[-1] = replace(made[-1], end=bar.end)
        else:
            made.append(bar)
    return made


def us(ns: float) -> str:
    """A time as the figures write it."""
    return f"{ns / US:,.1f}".removesuffix(".0") + " us"


def percent(share: float) -> str:
    """A share as the figures write it."""
    return f"{share * 100:.0f} %"


def only(table: pl.DataFrame, **where: Any) -> dict[str, Any]:
    """The one row of `table` where its columns have these values."""
    (found,) = table.filter(**where).to_dicts()
    return found


def ops(trace: Trace, **where: Any) -> list[Bar]:
    """Operations as bars, named as recorded."""
    kept = trace.ops.filter(**where).sort("start_ns")
    return [Bar(r["start_ns"], r["end_ns"], r["name"], r["kind"]) for r in kept.iter_rows(named=True)]


def ranges(trace: Trace, tid: int = 10) -> list[Bar]:
    """Ranges of one thread as bars."""
    kept = trace.ranges.filter(tid=tid).sort("start_ns")
    return [Bar(r["start_ns"], r["end_ns"], r["name"]) for r in kept.iter_rows(named=True)]


def called(trace: Trace, tid: int = 10) -> list[Bar]:
    """CUDA calls of one thread as bars."""
    kept = trace.api.filter(tid=tid).sort("start_ns")
    return [
        Bar(r["start_ns"], r["end_ns"], SHORT.get(r["name"], r["name"]), "call") for r in kept.iter_rows(named=True)
    ]


def launched(*at: int, tid: int = 10, first: int = 1) -> list[Row]:
    """Launches of 4 us at these instants, with correlations from `first` on."""
    return [call(LAUNCH, t, t + 4 * US, first + i, tid=tid) for i, t in enumerate(at)]
