"""Recipe of h200_graphs.sqlite: two CUDA graphs, one captured before the recording began and one in it.

    aisp-trace capture --nsys-arg=--capture-range=cudaProfilerApi -- python h200_graphs_recipe.py

A block of a model runs eager, as the graph that was captured early, and as the one captured late. Its residual lies on a second
stream while the projections run on the first; its input comes from pinned memory, its output goes back there.
"""

import torch

from aisp_trace.capture.stages import iteration, stage

torch.manual_seed(0)
width, tokens = 2048, 512
weights = [torch.randn(width, width, device="cuda") * width**-0.5 for _ in range(3)]
arrived, left = torch.randn(tokens, width).pin_memory(), torch.empty(tokens, width).pin_memory()
x, y = torch.zeros(tokens, width, device="cuda"), torch.empty(tokens, width, device="cuda")
seen = torch.zeros(tokens, width, device="cuda")
beside = torch.cuda.Stream()


def block() -> None:
    """One pass, enqueued on the current stream and on `beside`."""
    current = torch.cuda.current_stream()
    with stage("load", kind="h2d", nbytes=x.nbytes):
        x.copy_(arrived, non_blocking=True)
    with stage("residual", kind="compute"):
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            seen.zero_()
            for _ in range(3):
                seen.add_(x)
    with stage("project", kind="compute"):
        torch.mm(torch.relu(x @ weights[0]), weights[1], out=y)
    with stage("mix", kind="compute"):
        current.wait_stream(beside)
        torch.add(torch.softmax(y @ weights[2], -1), seen, out=y)
    with stage("store", kind="d2h", nbytes=y.nbytes):
        left.copy_(y, non_blocking=True)


def captured() -> torch.cuda.CUDAGraph:
    """The block as a graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        block()
    return graph


for _ in range(3):
    block()
torch.cuda.synchronize()
early = captured()
torch.cuda.synchronize()
torch.cuda.cudart().cudaProfilerStart()
with stage("capture"):
    late = captured()
for _ in range(8):
    with iteration():
        with stage("eager"):
            block()
        with stage("early"):
            early.replay()
        with stage("late"):
            late.replay()
        torch.cuda.synchronize()
torch.cuda.cudart().cudaProfilerStop()
