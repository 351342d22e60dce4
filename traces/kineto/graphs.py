"""Stages of CUDA graphs' nodes by torch's own marks (``torch.cuda._graph_annotations.mark_kernels``, in PyTorch 2.13).

torch.profiler does not record captures. What a program marked while it captured is in the trace all the same, once torch has put
it there: as ``annotation`` of each kernel with a ``graph node id``, or as ``name`` where the mark was a dictionary. Each mark
becomes a range of 1 ns before anything else, on a thread of its own, in which its nodes were captured: nobody knows when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from ..model import SCHEMAS
from .columns import arguments, integer, text

MARKS: Final = 0x7FFFFFFE
"""The thread of the ranges: none that Linux numbers, whose highest is 2**22 (proc(5), pid_max)."""


def marked_nodes(
    kernels: Sequence[dict[str, Any]], pid: int, before_ns: int
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """(ranges, table ``graph_nodes``) of the marks of `kernels`, all before `before_ns`; null if there are none.

    The ranges have the columns start_ns, end_ns, pid, tid and name. Of a node with several marks the first in the file counts.
    """
    mark_of: dict[int, str] = {}
    for event in kernels:
        args = arguments(event)
        node = integer(args.get("graph node id"))
        mark = args.get("annotation", args.get("name"))
        if node and isinstance(mark, str) and mark:
            mark_of.setdefault(node, text(mark))
    if not mark_of:
        return None
    names = sorted(set(mark_of.values()))
    start = {name: before_ns - 1 - i for i, name in enumerate(names)}
    ranges = [(start[name], start[name] + 1, pid, MARKS, name) for name in names]
    nodes = [(node, pid, MARKS, start[name]) for node, name in mark_of.items()]
    schema = {"start_ns": pl.Int64, "end_ns": pl.Int64, "pid": pl.Int32, "tid": pl.Int32, "name": pl.String}
    return (
        pl.DataFrame(ranges, schema=schema, orient="row"),
        pl.DataFrame(nodes, schema=pl.Schema(SCHEMAS["graph_nodes"]), orient="row"),
    )
