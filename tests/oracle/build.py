"""Small traces from literals: one function a row, defaults for everything a test does not speak of."""

from __future__ import annotations

from typing import Any

import polars as pl

from aisp_trace.traces.model import Meta, Trace, make_trace

Row = dict[str, Any]


def op(kind: str, start: int, end: int, correlation: int | None = None, **other: Any) -> Row:
    """A row of `ops`: device 0, stream 7, process 1."""
    row: Row = {
        "kind": kind,
        "device": 0,
        "context": 1,
        "stream": 7,
        "pid": 1,
        "start_ns": start,
        "end_ns": end,
        "correlation": correlation,
        "name": kind,
        "nbytes": None,
        "src_kind": None,
        "dst_kind": None,
        "src_device": None,
        "dst_device": None,
        "graph_id": None,
        "graph_node": None,
        "grid": None,
        "block": None,
    }
    return row | other


def call(name: str, start: int, end: int, correlation: int | None = None, **other: Any) -> Row:
    """A row of `api`: process 1, thread 10, success."""
    row: Row = {
        "pid": 1,
        "tid": 10,
        "start_ns": start,
        "end_ns": end,
        "correlation": correlation,
        "name": name,
        "result": 0,
    }
    return row | other


def span(name: str, start: int, end: int | None, **other: Any) -> Row:
    """A row of `ranges`: domain "aisp", process 1, thread 10, push/pop."""
    row: Row = {
        "pid": 1,
        "tid": 10,
        "end_tid": 10,
        "domain": "aisp",
        "name": name,
        "category": "",
        "nbytes": None,
        "start_ns": start,
        "end_ns": end,
        "style": "push_pop",
    }
    return row | other


def overhead(source: str, start: int, end: int, **other: Any) -> Row:
    """A row of `overhead`: process 1, thread 10."""
    return {"pid": 1, "tid": 10, "start_ns": start, "end_ns": end, "source": source, "name": source} | other


def osrt(name: str, start: int, end: int, **other: Any) -> Row:
    """A row of `osrt`: process 1, thread 10."""
    return {"pid": 1, "tid": 10, "start_ns": start, "end_ns": end, "name": name} | other


def device(number: int, kind: str = "gpu") -> Row:
    """A row of `devices` without any figures."""
    figures = ("uuid", "memory_bytes", "memory_bytes_per_s", "sm_count", "compute_capability", "sm_clock_hz")
    return {"device": number, "type": kind, "name": f"{kind} {number}"} | dict.fromkeys(figures)


def build(**tables: list[Row]) -> Trace:
    """The trace made of these rows; range ids follow the order of start, the longest first (see `span_id`)."""
    meta = Meta(file="literal", recorder="nsys", recorder_version="0", export_schema=None)
    frames = {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in tables.items() if rows}
    return make_trace(meta, **frames)


def span_id(trace: Trace, name: str) -> int:
    """The range_id of the one range called `name`."""
    (found,) = (row["range_id"] for row in trace.ranges.to_dicts() if row["name"] == name)
    return int(found)
