"""Which stage an operation of a CUDA graph was captured in.

    capture   |-- attn --|-- mlp --|            nodes: attn 1 2, mlp 3
    replay                             |-- replay --|
    stream                                1 2 3              attn: 1 2, mlp: 3, not replay

A graph is launched by one call, so that all of it would belong to the stage that replays it. Where the trace says when each node
was captured, it belongs to the stage that was open then, on the thread that captured it or by the cross-thread rule. When its
work counts (the window, the iteration, idle time before it) is settled by the launch that replays it, as for any other work.

A stage that also encloses the replay says less than the one that replays it, and does not count: capturing under `train` and
replaying under `train/replay` leaves the work with `train/replay`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...traces.model import Trace
from ..intervals import Ints
from .folding import folded
from .selection import Selected
from .stages import NO_STAGE, OUTSIDE_STAGE, Stages


@dataclass(frozen=True, slots=True)
class Captured:
    """Of each op of a trace: the stage it was captured in, `NO_STAGE` where that is not known or says nothing; and whether it is
    one of a CUDA graph of which nobody knows when it was captured."""

    stage: Ints
    unknown: npt.NDArray[np.bool_]

    def instead_of(self, stage: Ints) -> Ints:
        """`stage` codes of ops with that of the capture where there is one; those outside the window stay outside."""
        mine = (self.stage >= 0) & (stage != OUTSIDE_STAGE)
        return np.where(mine, self.stage.astype(stage.dtype), stage)


def find_captured(trace: Trace, stages: Stages, replaying: Ints, *, across: bool) -> Captured | None:
    """Where the ops of CUDA graphs were captured; null if the trace has none that it tells apart. `replaying` are the stage codes
    of the launches of all ops."""
    ops = trace.ops
    if "graph_node" not in ops.columns or ops["graph_node"].null_count() == len(ops):
        return None
    rows = np.flatnonzero(ops["graph_node"].is_not_null().to_numpy())
    nodes = trace.graph_nodes.with_row_index("row")
    which = (
        ops[rows]
        .select("pid", "graph_node")
        .join(nodes, on=["pid", "graph_node"], how="left", maintain_order="left")["row"]
        .fill_null(len(nodes))
        .to_numpy()
    )
    captured = np.full(len(nodes) + 1, NO_STAGE, np.int64)
    for (pid, tid), mine in nodes.group_by("pid", "tid"):
        at = mine["row"].to_numpy()
        captured[at] = stages.on_thread((pid, tid), across)(mine["time_ns"].to_numpy())
    of_op = captured[which]
    known = np.flatnonzero(of_op >= 0)
    of_op[known[_encloses(stages, of_op[known], replaying[rows[known]])]] = NO_STAGE
    stage, unknown = np.full(len(ops), NO_STAGE, np.int64), np.zeros(len(ops), bool)
    stage[rows] = of_op
    unknown[rows] = which == len(nodes)
    return Captured(stage, unknown)


def _encloses(stages: Stages, outer: Ints, inner: Ints) -> npt.NDArray[np.bool_]:
    """Of pairs of stages: whether the path of `outer`, numbers aside, is that of `inner` or of one that it nests in."""
    stages = stages if isinstance(stages, Selected) else folded(stages)
    pairs, which = np.unique(np.stack([stages.path_id[outer], stages.node_of(inner)]), axis=1, return_inverse=True)
    found = [node >= 0 and path in stages.paths_above[node] for path, node in pairs.T.tolist()]
    return np.array(found, bool)[which.reshape(-1)]
