"""The story that the synthetic traces tell: a data-parallel training, step after step, on every process at once.

    main      |load|----forward----|sync|..........................|-optimizer-|loss|sync|   profiler, allocator
    autograd                             |----backward launches----|
    loader                                   |-prefetch-|  (every fourth step)
    compute     |m| |--kernels--|----|       |--kernels--------------|---kernels, graphs--|
    copies        |h2d|           |d2h|          |h2d|
    comm                                          |allreduce|  |allreduce|

Every cause of idle time occurs: small kernels in the first half of the forward pass keep the device waiting for
launches, and calls that load modules, allocate, instantiate graphs or wait happen while it is dry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aisp_trace.benchmarks.kernel_catalog import (
    BACKWARD,
    COLLECTIVE_RANGES,
    COLLECTIVES,
    GRAPH,
    HEAD,
    INIT,
    LAYER,
    NUMBER,
    OPTIMIZER,
)
from aisp_trace.benchmarks.layout import GRAPH_NODES, Shape, graph_nodes
from aisp_trace.benchmarks.program import (
    BATCH_BYTES,
    COLLECTIVE_EVENTS,
    COMM,
    COMPUTE,
    D2H,
    DEVICE,
    DTOD,
    DTOH,
    H2D,
    HTOD,
    LABEL_BYTES,
    LAUNCH_NS,
    LOG_BYTES,
    NO_EVENT,
    PAGEABLE,
    PINNED,
    POOL_BYTES,
    PREFETCH,
    PTOP,
    RATE,
    SMALL_CALL_NS,
    STATE_BYTES,
    Program,
    launcher,
    one,
)
from aisp_trace.benchmarks.timeline import AUTOGRAD, LOADER, MAIN, Done, Recording, Script, Thread, Times, spread

SMALL: Final = 0.15
"""Length of the kernels in the first half of the layers, relative to the catalogue: shorter than their launches."""
BACKWARD_SCALE: Final = 0.4


class Training(Program):
    """Steps ``first .. first + count`` of a training whose steps are laid out as `layout`."""

    def __init__(self, rng: np.random.Generator, first: int, count: int, devices: Sequence[int], layout: Shape) -> None:
        super().__init__(rng, first, count, devices)
        self.layout = layout

    def run(self) -> tuple[Recording, Times]:
        """What happens, and how long each step lasts (shape ``(count,)``)."""
        main = self.main
        opened = main.mark()
        self._load()
        self._forward()
        loader = self._backward()
        self._optimize()
        self._finish()
        self.range("step", MAIN, opened, main.mark())
        self._housekeeping()
        length = np.maximum(main.now, loader).max(axis=1) + self.rng.integers(20_000, 200_000, self.rec.shape[0])
        return self.rec, length

    def _load(self) -> None:
        main, compute, h2d = self.main, self.streams[COMPUTE], self.streams[H2D]
        cleared = main.call("cudaMemsetAsync", 3_000)
        self.memset(cleared, compute, POOL_BYTES)
        opened = main.mark()
        self.blocking_copy("cudaMemcpyAsync", LABEL_BYTES, HTOD, PAGEABLE, DEVICE, RATE["pageable"])
        copied = main.call("cudaMemcpyAsync", 4_500)
        self.copy(copied, h2d, BATCH_BYTES, HTOD, PINNED, DEVICE, RATE["pinned"])
        self.event(main.call("cudaEventRecord", 1_200), H2D, 1)
        self.wait_event(COMPUTE, 1)
        compute.free = np.maximum(compute.free, h2d.free)
        self.range("load", MAIN, opened, main.mark(), category="h2d", nbytes=BATCH_BYTES + LABEL_BYTES)

    def _forward(self) -> None:
        main, layout = self.main, self.layout
        opened = main.mark()
        script, spans = Script(), []
        slots, special = [], -1
        for number in range(layout.forward):
            place, layer = number % len(LAYER), number // len(LAYER)
            inside = layer < layout.layers
            boundary = place in (0, 6) if inside else number == layout.layers * len(LAYER)
            pause = 40_000 if inside and place == 0 and layer % 8 == 7 else 4_500 if boundary else 1_300
            if boundary and place == 0 and layer == 0:
                special = script.add("cudaStreamIsCapturing", SMALL_CALL_NS, pause)
                pause = 1_300
            elif number % 2:
                script.add("cudaFuncGetAttributes" if number % 4 == 1 else "cudaEventQuery", SMALL_CALL_NS, pause)
                pause = 1_300
            slots.append(script.add(launcher(number), LAUNCH_NS, pause))
            if inside and place in (5, 9):
                first = special if number == 5 else slots[-6 if place == 5 else -4]
                spans.append(("attention" if place == 5 else "mlp", first, slots[-1], 400))
            if inside and place == 9:
                spans.append((f"layer{layer}", special if layer == 0 else slots[-10], slots[-1], 900))
        made = self.play(main, script, slots, special)
        kernels = [LAYER[n % 10] if n // 10 < layout.layers else HEAD[n % len(HEAD)] for n in range(layout.forward)]
        small = np.arange(layout.forward) < layout.layers // 2 * len(LAYER)
        self.launch(kernels, made, np.array(slots), COMPUTE, np.where(small, SMALL, 1.0), "step/forward")
        for name, a, b, margin in spans:
            self.range(name, MAIN, made.start[..., a] - margin, made.end[..., b] + margin - 100)
        moved = main.call("cudaMemcpyAsync", 4_000)
        self.copy(moved, self.streams[COMPUTE], STATE_BYTES, DTOD, DEVICE, DEVICE, RATE["device"])
        logged = main.call("cudaMemcpyAsync", 4_000)
        self.copy(logged, self.streams[D2H], LOG_BYTES, DTOH, DEVICE, PINNED, RATE["pinned"])
        self.range("forward", MAIN, opened, main.mark())
        waited = main.waiting_call("cudaStreamSynchronize", self.streams[COMPUTE].free)
        self.sync(waited, COMPUTE, NO_EVENT)

    def _backward(self) -> Times:
        """Main waits in `backward` while autograd's thread launches; returns when the loader's thread is done."""
        main, layout = self.main, self.layout
        opened = main.mark()
        autograd = Thread(self.rec, self.rng, AUTOGRAD, main.now + spread(self.rng, 15_000, self.rec.shape))
        due = {(b + 1) * layout.backward // layout.collectives - 1: b for b in range(layout.collectives)}
        script = Script()
        slots, buckets = [], []
        for number in range(layout.backward):
            if number % 2:
                script.add("cudaEventQuery" if number % 4 == 1 else "cuKernelGetAttribute", SMALL_CALL_NS)
            slots.append(script.add(launcher(number), LAUNCH_NS))
            if number in due:
                recorded = script.add("cudaEventRecord", 1_200)
                waited = script.add("cudaStreamWaitEvent", 900)
                launched = script.add("cudaLaunchKernelExC", 6_000, 3_000)
                ended = script.add("cudaEventRecord", 1_200, 3_000)
                buckets.append((due[number], number, recorded, waited, launched, ended))
        made = self.play(autograd, script, slots, -1)
        kernels = [BACKWARD[n % len(BACKWARD)] for n in range(layout.backward)]
        ends = self.launch(kernels, made, np.array(slots), COMPUTE, BACKWARD_SCALE, "step/backward")
        for bucket, number, recorded, waited, launched, ended in buckets:
            self.event(one(made, recorded), COMPUTE, 2 + bucket)
            self.sync(one(made, waited), COMM, 2 + bucket)
            self._collective(bucket, ends[..., number], one(made, launched))
            self.event(one(made, ended), COMM, COLLECTIVE_EVENTS + bucket)
        closed = autograd.now + spread(self.rng, 20_000, self.rec.shape)
        loader = self._prefetch(opened, closed)
        main.now = closed
        self.range("backward", MAIN, opened, main.mark())
        return loader

    def _collective(self, bucket: int, produced: Times, launch: Done) -> None:
        """One collective on the comm stream: starts on its own on each process, ends on all together."""
        comm, kind = self.streams[COMM], bucket % len(COLLECTIVES)
        start = np.maximum.reduce([launch.end + 2_500, produced + 1_500, comm.free + 800])
        work = spread(self.rng, COLLECTIVES[kind].mean_ns, self.rec.shape)[:, :1]
        end = start.max(axis=1, keepdims=True) + work + self.rng.integers(0, 900, self.rec.shape)
        comm.free = end
        columns = {"start": start, "end": end, "slot": launch.slot, "stream": COMM}
        number = np.array([NUMBER[COLLECTIVES[kind]]])
        self.rec.kernels.append(columns | {"number": number, "node": 0, "stage": "step/backward"})
        self.range(COLLECTIVE_RANGES[kind], AUTOGRAD, launch.start - 700, launch.end + 700, domain="NCCL")

    def _prefetch(self, opened: Times, closed: Times) -> Times:
        span, present = closed - opened, self.every(4, 0)
        loader = Thread(self.rec, self.rng, LOADER, opened + span // 5)
        grown, shrunk = self.every(52, 0), self.every(52, 26)
        freed = loader.call("cudaFreeHost", 100_000, present=shrunk)
        self.memory(freed, PINNED, BATCH_BYTES, True, shrunk)
        begin = loader.mark()
        held = loader.call("cudaHostAlloc", 250_000, present=grown)
        self.memory(held, PINNED, BATCH_BYTES, False, grown)
        loader.now = np.maximum(loader.now, opened + span // 3)
        copied = loader.call("cudaMemcpyAsync", 5_000, present=present)
        self.copy(copied, self.streams[PREFETCH], BATCH_BYTES, HTOD, PINNED, DEVICE, RATE["pinned"], present=present)
        loader.call("cudaEventRecord", 1_200, present=present)
        end = loader.mark()
        self.range("prefetch", LOADER, begin, end, category="h2d", nbytes=BATCH_BYTES, present=present)
        return loader.now

    def _optimize(self) -> None:
        main, layout, compute = self.main, self.layout, self.streams[COMPUTE]
        opened = main.mark()
        self.wait_event(COMPUTE, COLLECTIVE_EVENTS + layout.collectives - 1)
        compute.free = np.maximum(compute.free, self.streams[COMM].free)
        several = len(set(self.devices)) > 1
        moved = main.call("cudaMemcpyAsync", 4_500, present=self.every(10, 3) & several)
        self.copy(
            moved,
            self.streams[COMM],
            STATE_BYTES,
            PTOP,
            DEVICE,
            DEVICE,
            RATE["peer"],
            present=self.every(10, 3) & several,
        )
        script = Script()
        slots = [script.add(launcher(n), LAUNCH_NS) for n in range(layout.optimizer)]
        made = self.play(main, script, slots, -1)
        kernels = [OPTIMIZER[n % len(OPTIMIZER)] for n in range(layout.optimizer)]
        self.launch(kernels, made, np.array(slots), COMPUTE, 1.0, "step/optimizer")
        if layout.graph:
            self._graphs()
        self.range("optimizer", MAIN, opened, main.mark())

    def _graphs(self) -> None:
        """Graph launches: every kernel of one shares the launch's correlation and is ready with it."""
        main, nodes = self.main, np.arange(self.layout.graph)
        script = Script()
        launches = [script.add("cudaGraphLaunch", 9_000, 4_000) for _ in range(-(-len(nodes) // GRAPH_NODES))]
        made = self.play(main, script, launches, -1)
        graph = nodes // GRAPH_NODES
        kernels = [GRAPH[n % len(GRAPH)] for n in nodes.tolist()]
        self.launch(
            kernels, made, np.array(launches)[graph], COMPUTE, 1.0, "step/optimizer", node=graph_nodes(len(nodes))
        )

    def _finish(self) -> None:
        main, streams = self.main, self.streams
        self.blocking_copy("cudaMemcpyAsync", 4, DTOH, DEVICE, PAGEABLE, RATE["pageable"])
        waited = main.waiting_call("cudaStreamSynchronize", streams[COMPUTE].free)
        self.sync(waited, COMPUTE, NO_EVENT)
        main.waiting_call("cudaDeviceSynchronize", np.maximum.reduce([s.free for s in streams.values()]))

    def _housekeeping(self) -> None:
        """Between steps, outside every range: an emptied pool, a rebuilt graph, and the profiler flushing its buffers."""
        main = self.main
        main.call("cudaGraphInstantiateWithFlags", 400_000, present=self.every(64, 32) & (self.layout.graph > 0))
        emptied = self.every(10, 9)
        freed = main.call("cudaFree", 150_000, 20_000, emptied)
        self.memory(freed, DEVICE, POOL_BYTES, True, emptied)
        taken = main.call("cudaMalloc", 200_000, 20_000, emptied)
        self.memory(taken, DEVICE, POOL_BYTES, False, emptied)
        flushed = self.every(16, 15)
        start = main.mark(30_000)
        main.now = main.now + np.where(flushed, 420_000, 0)
        self.rec.overhead.append({"start": start, "end": start + 400_000, "thread": MAIN, "present": flushed})


class StartUp(Program):
    """What precedes the first step: memory is taken and parameters are initialised, outside every range."""

    def run(self, counts: Sequence[int]) -> tuple[Recording, Times]:
        """``counts[p]`` kernels are launched by process p; everything happens in one step, whose length is returned."""
        taken = self.main.call("cudaMalloc", 400_000, 500_000)
        self.memory(taken, DEVICE, POOL_BYTES, False, True)
        script = Script()
        for number in range(max(counts)):
            script.add(launcher(number), LAUNCH_NS)
        shape = (*self.rec.shape, max(counts))
        present = np.arange(max(counts)) < np.array(counts)[None, :, None]
        made = self.main.burst(
            script.names, spread(self.rng, script.gaps, shape), spread(self.rng, script.durations, shape)
        )
        self.rec.calls[-1]["present"] = present
        kernels = [INIT[n % len(INIT)] for n in range(max(counts))]
        self.launch(kernels, made, np.arange(max(counts)), COMPUTE, 1.0, "(none)")
        self.rec.kernels[-1]["present"] = present
        self.main.waiting_call("cudaDeviceSynchronize", self.streams[COMPUTE].free)
        return self.rec, self.main.now.max(axis=1) + 50_000
