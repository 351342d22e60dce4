"""Metrics that are counted: operations, copies, bytes, stages, allocations. Exact, and per iteration where there are any."""

from __future__ import annotations

import polars as pl

from ...analyze.result import Analysis
from ...traces.model import COPY_KINDS, KINDS
from .reading import Reader, Reading, add_up, at, has_stage, in_stage, nothing, per_iteration, total, unavailable, under

_KINDS_OF = {"copy": COPY_KINDS, "all": KINDS, "kernel": ("compute", "comm")}


def ops(column: str) -> Reader:
    """Operations of a kind (`column` "ops") or their bytes ("nbytes")."""

    def read(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
        return _count(analysis, of, stage, column)

    return read


def kernels(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Kernels, those of communication included; what a graph launch recorded whole holds cannot be counted."""
    return _count(analysis, "kernel", stage, "ops")


def stage_ops(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Device operations of a stage, nested stages included."""
    if _graphs(analysis):
        return _count(analysis, "all", stage, "ops")
    if not has_stage(analysis, str(stage)):
        return nothing(analysis, f"no stage {stage!r}")
    return per_iteration(analysis, add_up(analysis.stages.filter(at(str(stage), "path")), "ops"))


def instances(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """How often a stage was entered."""
    # A stage whose ops ran on two devices has two rows that count the same instances.
    rows = analysis.stages.filter(at(str(stage), "path")).group_by("path").agg(pl.col("instances").max())
    return per_iteration(analysis, add_up(rows, "instances"))


def stage_bytes(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """The bytes that the ranges of a stage say they move: their payloads, whatever a device did."""
    rows = analysis.stages.filter(at(str(stage), "path")).group_by("path").agg(pl.col("payload_bytes").max())
    rows = rows.drop_nulls("payload_bytes")
    if rows.is_empty():
        return nothing(analysis, f"no bytes that ranges of stage {stage!r} carry")
    return per_iteration(analysis, add_up(rows, "payload_bytes"))


def allocator_calls(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Calls of the driver's allocator (on a machine without a GPU: stages of kind ``alloc``), nested stages included."""
    if stage is not None and not has_stage(analysis, stage):
        return nothing(analysis, f"no stage {stage!r}")
    rows = analysis.allocator.filter(pl.lit(True) if stage is None else under(stage))
    return per_iteration(analysis, add_up(rows, "calls"))


def memory_peak(analysis: Analysis, of: str | None, stage: str | None) -> Reading:
    """Most bytes in use at any instant of the window, or of any instance of a stage: of the fullest device."""
    if stage is None:
        rows = analysis.memory.filter(pl.col("kind") == of)
    else:
        rows = analysis.stage_memory.filter((pl.col("kind") == of) & at(stage))
    peak = rows["peak_bytes"].max()
    if peak is None:
        return nothing(analysis, f"no {of} memory events{in_stage(stage)}")
    return total(analysis, int(str(peak)))


def _count(analysis: Analysis, of: str | None, stage: str | None, column: str) -> Reading:
    graphs = _graphs(analysis)
    if graphs and of != "graph":
        return unavailable(analysis, f"{graphs} CUDA graphs were recorded whole; record them node by node")
    kinds = _KINDS_OF.get(str(of), (str(of),))
    if stage is not None and not has_stage(analysis, stage):
        return nothing(analysis, f"no stage {stage!r}")
    table = analysis.kinds if stage is None else analysis.stage_kinds.filter(at(stage, "path"))
    rows = table.filter(pl.col("kind").cast(pl.String).is_in(kinds))
    if column == "nbytes" and add_up(rows, "ops") and not add_up(rows, "nbytes"):
        return unavailable(analysis, f"the {of} operations of the trace carry no bytes")
    return per_iteration(analysis, add_up(rows, column))


def _graphs(analysis: Analysis) -> int:
    return add_up(analysis.kinds.filter(pl.col("kind") == "graph"), "ops")
