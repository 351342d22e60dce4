"""Stages of CUDA graphs' nodes by torch's own marks (``torch.cuda._graph_annotations.mark_kernels``, in PyTorch 2.13).

torch.profiler does not record captures. What a program marked while it captured is in the trace all the same, once torch has put
it there: as ``annotation`` of each kernel with a ``graph node id``, or as ``name`` where the mark was a dictionary. Each mark
becomes a range of 1 ns before anything else, on a thread of its own, in which its nodes were captured: nobody knows when.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from ..model import SCHEMAS
from .columns import integer
from .events import Event, arguments

MARKS: Final = 0x7FFFFFFE
"""The thread of the ranges: none that Linux numbers, whose highest is 2**22 (proc(5), pid_max)."""


def mark_of(kernel: Event) -> tuple[int, str] | None:
    """(node, mark) of a kernel of a graph; null where nobody marked it."""
    args = arguments(kernel)
    mark = args.name if args.annotation is None else args.annotation
    node = integer(args.graph_node_id) if isinstance(mark, str) and mark else None
    return (node, mark) if node and isinstance(mark, str) else None


def marked_nodes(mark_of: Mapping[int, str], pid: int, before_ns: int) -> tuple[list[tuple[int, str]], pl.DataFrame]:
    """(start and name of each range, table ``graph_nodes``) of the marks of nodes, all before `before_ns`."""
    names = sorted(set(mark_of.values()))
    start = {name: before_ns - 1 - i for i, name in enumerate(names)}
    nodes = [(node, pid, MARKS, start[name]) for node, name in mark_of.items()]
    table = pl.DataFrame(nodes, schema=pl.Schema(SCHEMAS["graph_nodes"]), orient="row")
    return [(start[name], name) for name in names], table
