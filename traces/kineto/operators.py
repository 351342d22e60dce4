"""Operators, modules and Python functions of a torch.profiler trace as ranges, each kind in a domain of its own.

    domain          what                                    recorded with
    torch.op        operators: aten::linear                 always
    torch.module    modules: Linear_0                       with_stack=True or with_modules=True
    torch.python    Python functions: train.py(12): step    with_stack=True

Operators are the stages where nobody opened any range; else these domains count only when asked for. Backward runs on a thread of
its own, on which no module is open. What ties both are sequence numbers: a backward operator has that of the forward operator it
belongs to.

    main        |--- Net_0 -------------|                   domain torch.module
                   |-- Linear_0 --|
                     aten::linear 7                         torch.op, with its sequence number
    autograd                                 |- AddmmBackward0 7 -|
                                             |- backward/Net_0/Linear_0 -|      made here, in torch.module
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from ..stage_domain import OPERATORS
from .columns import Words

MODULES, FUNCTIONS = "torch.module", "torch.python"
BACKWARD: Final = "backward"
"""What the modules of backward operators nest in."""

_MODULE: Final = "nn.Module: "
"""How torch's Python tracer begins the names of modules."""


def operator_ranges(operators: pl.DataFrame, functions: pl.DataFrame, words: Words) -> pl.DataFrame:
    """Rows of table ``ranges``, as numbers of `words` where they are names, of the events ``cpu_op`` and ``python_function``.

    These have the columns start_ns, end_ns, pid, tid, name, sequence and forward, and their times are usable.
    """
    is_module = pl.Series([name.startswith(_MODULE) for name in words.texts()], dtype=pl.Boolean)
    modules = is_module.gather(functions["name"])
    domains = pl.select(pl.when(modules).then(pl.lit(MODULES)).otherwise(pl.lit(FUNCTIONS)).alias("domain")).to_series()
    functions = functions.with_columns(
        words.renamed(functions["name"], lambda name: name.removeprefix(_MODULE)), domains
    )
    frame = pl.concat([operators.with_columns(pl.lit(OPERATORS).alias("domain")), functions])
    frame = frame.sort("start_ns", "end_ns", descending=[False, True], maintain_order=True)
    backward = words.number(BACKWARD)
    tied = pl.DataFrame(list(_tied(frame, backward)), schema={n: frame.schema[n] for n in _COLUMNS}, orient="row")
    return pl.concat([frame.select(_COLUMNS), tied])


_COLUMNS: Final = ("start_ns", "end_ns", "pid", "tid", "name", "domain")


def _tied(frame: pl.DataFrame, name_of_backward: int) -> Iterator[tuple[Any, ...]]:
    """Ranges of modules around each backward operator: those which were open when its forward operator began."""
    modules = frame.filter(pl.col("domain") == MODULES)
    if modules.is_empty():
        return
    numbered = frame.filter((pl.col("domain") == OPERATORS) & (pl.col("sequence") >= 0))
    forward = numbered.filter(pl.col("forward").fill_null(0) == 0)
    latest = {  # the innermost operator of a number begins last
        (pid, sequence): (tid, start)
        for pid, sequence, tid, start in forward.select("pid", "sequence", "tid", "start_ns").iter_rows()
    }
    chains = _Chains(modules)
    reached: dict[tuple[int, int], int] = {}
    backward = numbered.filter(pl.col("forward") > 0)
    for start, end, pid, tid, sequence in backward.select("start_ns", "end_ns", "pid", "tid", "sequence").iter_rows():
        if start < reached.get((pid, tid), start):
            continue  # nested in one that has its modules already
        known = latest.get((pid, sequence))
        names = [] if known is None or known[1] > start else chains.open_at(pid, *known)
        if names:
            reached[pid, tid] = end
            yield from ((start, end, pid, tid, name, MODULES) for name in (name_of_backward, *names))


class _Chains:
    """Which modules are open on a thread at an instant, outermost first."""

    def __init__(self, modules: pl.DataFrame) -> None:
        self._of = {
            key: (part["start_ns"].to_numpy(), part["end_ns"].to_numpy(), part["name"].to_list(), _parents(part))
            for key, part in modules.group_by("pid", "tid", maintain_order=True)
        }

    def open_at(self, pid: int, tid: int, time: int) -> list[int]:
        if (pid, tid) not in self._of:
            return []
        start, end, names, parent = self._of[pid, tid]
        at = int(np.searchsorted(start, time, side="right")) - 1
        while at >= 0 and end[at] <= time:
            at = parent[at]
        found = []
        while at >= 0:
            found.append(names[at])
            at = parent[at]
        return found[::-1]


def _parents(ranges: pl.DataFrame) -> list[int]:
    """The range that each one nests in, -1 for none, of ranges of a thread by start, longest first; one that crosses an earlier
    one nests in it."""
    out, open_ = list[int](), list[tuple[int, int]]()
    for row, (start, end) in enumerate(ranges.select("start_ns", "end_ns").iter_rows()):
        while open_ and open_[-1][0] <= start:
            open_.pop()
        out.append(open_[-1][1] if open_ else -1)
        open_.append((end, row))
    return out
