"""What a CUDA graph costs beside its kernels: the host's time to launch one, and the time between two of its nodes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ..traces.calibration import Costs
from ..traces.documents import TORCH, read

NODES: Final = 100
"""Kernels of the graph, each adding to a few numbers: they last about a microsecond."""

REPLAYS: Final = 50
WARM_UP: Final = 5


def graph_costs(device: int) -> Costs:
    """Measured on one GPU, with nothing else running on it."""
    with torch.cuda.device(device):
        graph = _graph(device)
        launches = [_launch_ns(graph) for _ in range(WARM_UP + REPLAYS)][WARM_UP:]
        return Costs(device, max(1, round(statistics.median(launches))), _node_ns(graph))


def _graph(device: int) -> torch.cuda.CUDAGraph:
    numbers = torch.zeros(256, device=torch.device("cuda", device))
    numbers.add_(1)  # what loads the kernel cannot be captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            numbers.add_(1)
    return graph


def _launch_ns(graph: torch.cuda.CUDAGraph) -> int:
    """What the call takes while the device idles."""
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    graph.replay()
    return time.perf_counter_ns() - start


def _node_ns(graph: torch.cuda.CUDAGraph) -> int | None:
    """From torch.profiler's record of some replays; null if it records no kernels here, as where CUPTI is not allowed."""
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
        file = Path(folder) / "trace.json"
        try:
            with torch.profiler.profile() as profile:
                for _ in range(WARM_UP + REPLAYS):
                    graph.replay()
                    torch.cuda.synchronize()
            profile.export_chrome_trace(str(file))
        except RuntimeError:  # a torch without Kineto, or another profiler has the device's counters
            return None
        document = read(file, TORCH)
    return node_gap_ns(document["traceEvents"], NODES)


def node_gap_ns(events: Sequence[Mapping[str, Any]], nodes: int) -> int | None:
    """The median ns from one kernel to the next of a graph of `nodes` kernels, in Chrome trace events of its replays.

    Null unless the kernels are those of whole replays.
    """
    kernels = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "kernel" and e.get("ph") == "X")
    if not kernels or len(kernels) % nodes:
        return None
    gaps = [kernels[i][0] - kernels[i - 1][1] for i in range(1, len(kernels)) if i % nodes]
    return max(0, round(1e3 * float(statistics.median(gaps))))
