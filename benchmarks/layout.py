"""How many kernels of which kind a step has, and how its CUDA graphs are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from aisp_trace.benchmarks.kernel_catalog import LAYER
from aisp_trace.benchmarks.timeline import Times

GRAPH_NODES: Final = 64
"""Nodes of one captured graph; a graph with fewer is the rest."""


@dataclass(slots=True)
class Shape:
    """How many kernels of which kind each step of each process has."""

    forward: int
    backward: int
    optimizer: int
    collectives: int
    graph: int
    layers: int = field(init=False)

    def __post_init__(self) -> None:
        self.layers = self.forward // len(LAYER)

    @classmethod
    def of(cls, kernels: int, graph_share: float) -> Shape:
        """Split `kernels` (at least 40) of a step; `graph_share` of them are nodes of CUDA graphs."""
        graph = round(kernels * graph_share)
        collectives = max(2, kernels // 128)
        rest = kernels - graph - collectives
        optimizer = max(2, rest // 20)
        forward = max(len(LAYER) + 1, int((rest - optimizer) * 0.38))
        return cls(forward, rest - optimizer - forward, optimizer, collectives, graph)

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.optimizer + self.collectives + self.graph


def graph_nodes(count: int) -> Times:
    """graphNodeId of `count` nodes in graphs of `GRAPH_NODES`: the graph's number above bit 32, as nsys writes it."""
    nodes = np.arange(count)
    return (nodes // GRAPH_NODES + 1 << 32) + nodes % GRAPH_NODES
