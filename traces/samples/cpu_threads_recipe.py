# The program as it was recorded; not part of the package.
# ruff: noqa
# mypy: ignore-errors
# fmt: off
"""Recipe of nsys2022_cpu_threads.sqlite: a CPU-only three-stage pipeline, serial then threaded, under nsys 2022.4.2."""
import queue, threading
import nvtx, torch
torch.set_num_threads(1)
def span(name, payload=None): return nvtx.annotate(name, domain="aisp", payload=payload)
N, SHAPE = 12, (512, 1024)
src = [torch.randn(*SHAPE) for _ in range(N)]; w = torch.randn(SHAPE[1], SHAPE[1])
def load(i):
    with span("stage:load", src[i].nbytes): return src[i].clone()
def compute(x):
    with span("stage:compute"): return torch.relu(x @ w)
def store(y, out):
    with span("stage:store", y.nbytes): out.append(y.clone())
with span("pipeline/baseline"):
    out = []
    for i in range(N):
        with span("iteration"): store(compute(load(i)), out)
a, b, out2 = queue.Queue(2), queue.Queue(2), []
def loader():
    for i in range(N): a.put(load(i))
    a.put(None)
def computer():
    while (x := a.get()) is not None: b.put(compute(x))
    b.put(None)
with span("pipeline/optimized"):
    ts = [threading.Thread(target=loader), threading.Thread(target=computer)]
    [t.start() for t in ts]
    while (y := b.get()) is not None: store(y, out2)
    [t.join() for t in ts]
assert all(torch.equal(p, q) for p, q in zip(out, out2)); print("ok")
