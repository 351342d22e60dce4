"""When everything would have happened, by the graph's weights, and which chain of edges led to an instant."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...traces.engine import primitive
from ..intervals import Ints
from .graph import Graph, Nodes


def replay(graph: Graph, weight: Ints | None = None) -> Ints:
    """The time of each node in ns, with `weight` (ns, one an edge) instead of the graph's own, if given."""
    return _replay(graph.first, graph.source, graph.weight if weight is None else weight)


def critical(graph: Graph, weight: Ints, time: Ints, low: int, node: int) -> tuple[Ints, Ints, Ints]:
    """The chain of edges that led to `node`, back to the instant `low`: (edge, from ns, to ns), in order of time.

    `time` is what `replay` gives for `weight`. The chain follows the edge that decided each node, and what lies before `low` is
    cut off: the pieces touch each other, from `low`, or the first node, which waited for nothing, up to the node's time.
    """
    edges = _chain(graph.first, graph.source, weight, time, low, node)[::-1].copy()
    source, target = graph.source[edges], graph.target[edges]
    began = np.where(source >= 0, time[np.maximum(source, 0)], low)
    lasting = np.flatnonzero(time[target] > began)
    return edges[lasting], np.maximum(began, low)[lasting], time[target][lasting]


@primitive
def _replay(first: Ints, source: Nodes, weight: Ints) -> Ints:
    """The latest of source plus weight, node by node: each comes after its sources."""
    times: list[int] = []
    sources, weights = source.tolist(), weight.tolist()
    for low, high in pairwise(first.tolist()):
        times.append(max(weights[e] + (times[sources[e]] if sources[e] >= 0 else 0) for e in range(low, high)))
    return np.array(times, np.int64)


@primitive
def _chain(first: Ints, source: Nodes, weight: Ints, time: Ints, low: int, node: int) -> Ints:
    """The first edge of each node that gives its time, from `node` back to the first node that is not after `low`."""
    edges = []
    while node >= 0 and time[node] > low:
        edge = int(first[node])
        while weight[edge] + (time[source[edge]] if source[edge] >= 0 else 0) != time[node]:
            edge += 1
        edges.append(edge)
        node = int(source[edge])
    return np.array(edges, np.int64)
