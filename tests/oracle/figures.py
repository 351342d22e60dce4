"""Counts, unions and overlaps of a handful of ops, as plainly as they can be written down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from aisp_trace.traces.model import COPY_KINDS, KINDS

Row = dict[str, Any]


def device_figures(ops: list[Row], steps: list[tuple[int, int]]) -> dict[str, Any]:
    """Span, busy time, kinds, overlaps and exposed time of clipped ops; `steps` end wherever an op begins or ends."""
    compute, comm, copy = {"compute", "graph"}, {"comm"}, set(COPY_KINDS)
    busy = 0
    both = {"copy|compute": 0, "comm|compute": 0, "h2d|d2h": 0}
    exposed = {"copy": 0, "comm": 0}
    for start, end in steps:
        kinds = {op["kind"] for op in open_at(ops, start)}
        length = end - start
        busy += length if kinds else 0
        both["copy|compute"] += length if kinds & copy and kinds & compute else 0
        both["comm|compute"] += length if kinds & comm and kinds & compute else 0
        both["h2d|d2h"] += length if {"h2d", "d2h"} <= kinds else 0
        exposed["copy"] += length if kinds & copy and not kinds & (compute | comm) else 0
        exposed["comm"] += length if kinds & comm and not kinds & compute else 0
    span = span_ns(ops)
    return {
        "ops_span_ns": span,
        "busy_ns": busy,
        "idle_ns": span - busy,
        "by_kind": by_kind(ops),
        "both_ns": both,
        "exposed_ns": exposed,
    }


def open_at(rows: Sequence[Row], time: int) -> list[Row]:
    """The rows whose half-open interval holds `time`; an empty interval holds nothing."""
    return [row for row in rows if row["start_ns"] <= time < row["end_ns"]]


def meets(op: Row, start: int, end: int) -> bool:
    """Whether the op shares an instant with the window, or, without length, lies in it."""
    if op["start_ns"] == op["end_ns"]:
        return bool(start <= op["start_ns"] < end)
    return bool(op["start_ns"] < end and start < op["end_ns"])


def clip(op: Row, start: int, end: int) -> Row:
    """The op's part within the window; how many of its bytes that were is unknown."""
    cut = op["start_ns"] < start or op["end_ns"] > end
    return {
        **op,
        "start_ns": max(start, op["start_ns"]),
        "end_ns": min(end, op["end_ns"]),
        "nbytes": None if cut else op["nbytes"],
    }


def span_ns(ops: list[Row]) -> int:
    """Last end minus first start; 0 without ops."""
    return max(op["end_ns"] for op in ops) - min(op["start_ns"] for op in ops) if ops else 0


def by_kind(ops: list[Row]) -> dict[str, dict[str, int]]:
    """Count, sum of durations, union and bytes of each kind that occurs."""
    out = {}
    edges = sorted({op["start_ns"] for op in ops} | {op["end_ns"] for op in ops})
    for kind in KINDS:
        mine = [op for op in ops if op["kind"] == kind]
        if mine:
            out[kind] = {
                "ops": len(mine),
                "sum_ns": sum(op["end_ns"] - op["start_ns"] for op in mine),
                "union_ns": sum(b - a for a, b in pairwise(edges) if open_at(mine, a)),
                "nbytes": sum(op["nbytes"] or 0 for op in mine),
            }
    return out
