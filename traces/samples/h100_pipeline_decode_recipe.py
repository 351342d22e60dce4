# The program as it was recorded; not part of the package.
# ruff: noqa
# mypy: ignore-errors
# fmt: off
import torch, time, os, sys
import nvtx
def rng(name): return nvtx.annotate(name, domain="aisp")
dev="cuda"
torch.manual_seed(0)
def pipeline(optimized, n=12, bytes_mb=64):
    tag="optimized" if optimized else "baseline"
    x=[torch.randn(bytes_mb*1024*1024//4//4096,4096, pin_memory=optimized) for _ in range(2)]
    w=torch.randn(4096,4096,device=dev,dtype=torch.float32)
    w2=torch.randn(4096,4096,device=dev,dtype=torch.float32)
    out=torch.empty(x[0].shape, pin_memory=optimized)
    cs=torch.cuda.Stream(); comp=torch.cuda.current_stream()
    torch.cuda.synchronize()
    with rng(tag):
        if not optimized:
            for i in range(n):
                with rng("stage:h2d"):
                    d=x[i%2].to(dev); torch.cuda.synchronize()
                with rng("stage:compute"):
                    y=(d@w).relu_()@w2; torch.cuda.synchronize()
                with rng("stage:d2h"):
                    y.cpu(); torch.cuda.synchronize()
                with rng("stage:alloc"):
                    torch.cuda.empty_cache()
        else:
            bufs=[torch.empty(x[0].shape,device=dev) for _ in range(2)]
            evs=[torch.cuda.Event() for _ in range(2)]; done=[torch.cuda.Event() for _ in range(2)]
            ds=torch.cuda.Stream()
            for i in range(n):
                b=i%2
                with rng("stage:h2d"), torch.cuda.stream(cs):
                    cs.wait_event(done[b]) if i>=2 else None
                    bufs[b].copy_(x[b],non_blocking=True); evs[b].record(cs)
                with rng("stage:compute"):
                    comp.wait_event(evs[b])
                    y=(bufs[b]@w).relu_()@w2; done[b].record(comp)
                with rng("stage:d2h"), torch.cuda.stream(ds):
                    ds.wait_event(done[b]); out.copy_(y,non_blocking=True); y.record_stream(ds)
            torch.cuda.synchronize()
def decode(graph, steps=64):
    tag="optimized" if graph else "baseline"
    m=torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.Linear(1024,4096),torch.nn.GELU(),torch.nn.Linear(4096,1024)) for _ in range(8)]).to(dev).half()
    x=torch.randn(4,1024,device=dev).half()
    with torch.no_grad():
        s=torch.cuda.Stream(); s.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(s):
            for _ in range(3): m(x)
        torch.cuda.current_stream().wait_stream(s)
        torch.cuda.synchronize()
        if graph:
            g=torch.cuda.CUDAGraph()
            with torch.cuda.graph(g): y=m(x)
            with rng(tag):
                for _ in range(steps):
                    with rng("stage:decode"): g.replay()
                torch.cuda.synchronize()
        else:
            with rng(tag):
                for _ in range(steps):
                    with rng("stage:decode"): y=m(x)
                torch.cuda.synchronize()
with rng("warmup"):
    torch.randn(4096,4096,device=dev)@torch.randn(4096,4096,device=dev); torch.cuda.synchronize()
for o in (False,True):
    with rng("pipeline_sequential"): pipeline(o)
    with rng("decode"): decode(o)
torch.cuda.nvtx.range_push("torch-nvtx"); torch.randn(10,device=dev).sum().item(); torch.cuda.nvtx.range_pop()
print("workload done", torch.cuda.get_device_name())
