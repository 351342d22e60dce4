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

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from aisp_trace.benchmarks.kernel_catalog import (
    BACKWARD,
    CALL,
    COLLECTIVE_RANGES,
    COLLECTIVES,
    GRAPH,
    HEAD,
    KERNELS,
    LAYER,
    NUMBER,
    OPTIMIZER,
    Kernel,
)
from aisp_trace.benchmarks.timeline import (
    AUTOGRAD,
    LOADER,
    MAIN,
    Done,
    Mask,
    Recording,
    Script,
    Stream,
    Thread,
    Times,
    spread,
)

COMPUTE, H2D, D2H, COMM, PREFETCH = 7, 13, 17, 21, 25
STREAMS: Final = (COMPUTE, H2D, D2H, COMM, PREFETCH)
"""Stream ids of every process; 7 is the default stream, as in real exports."""

PAGEABLE, PINNED, DEVICE = 0, 1, 2
HTOD, DTOH, DTOD, PTOP = 1, 2, 8, 10

STREAM_WAITS, EVENT_WAITS = 2, 1
"""syncType as nsys 2025.3 writes it: 2 for cudaStreamSynchronize and cudaStreamWaitEvent alike."""

LAUNCH_NS, SMALL_CALL_NS = 3_500, 350
GRAPH_NODES: Final = 64
"""Nodes of one captured graph; a graph with fewer is the rest."""

SMALL: Final = 0.15
"""Length of the kernels in the first half of the layers, relative to the catalogue: shorter than their launches."""
BACKWARD_SCALE: Final = 0.4

BATCH_BYTES, LABEL_BYTES, LOG_BYTES, STATE_BYTES, POOL_BYTES = 16 << 20, 256 << 10, 4 << 20, 8 << 20, 64 << 20
RATE: Final = {"pinned": 52, "pageable": 8, "device": 1_300, "peer": 300}
"""Bytes per nanosecond of a copy."""

INVALID_CONFIGURATION: Final = 9
"""cudaErrorInvalidConfiguration."""
COLLECTIVE_EVENTS: Final = 1_024
"""Event id of the first collective's completion; the ids below are those of what the collectives wait for."""


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
        collectives = max(1, kernels // 128)
        rest = kernels - graph - collectives
        optimizer = max(2, rest // 20)
        forward = max(len(LAYER) + 1, int((rest - optimizer) * 0.38))
        return cls(forward, rest - optimizer - forward, optimizer, collectives, graph)

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.optimizer + self.collectives + self.graph


class Training:
    """Simulates steps of a training of `shape` on processes that work on `devices` (one number each)."""

    def __init__(self, rng: np.random.Generator, shape: Shape, devices: list[int]) -> None:
        self.rng = rng
        self.layout = shape
        self.devices = devices

    def steps(self, first: int, count: int) -> tuple[Recording, Times]:
        """What happens in steps ``first .. first + count``, and the length of each (shape ``(count,)``)."""
        shape = (count, len(self.devices))
        self.rec = Recording(shape)
        self.number = np.broadcast_to(np.arange(first, first + count)[:, None], shape)
        self.streams = {number: Stream(number, shape) for number in STREAMS}
        self.main = main = Thread(self.rec, self.rng, MAIN, self.rng.integers(2_000, 20_000, shape))
        opened = main.mark()
        self._load()
        self._forward()
        loader = self._backward()
        self._optimize()
        self._finish()
        self._range("step", MAIN, opened, main.mark())
        self._housekeeping()
        length = np.maximum(main.now, loader).max(axis=1) + self.rng.integers(20_000, 200_000, count)
        return self.rec, length

    def every(self, period: int, phase: int) -> Mask:
        """Which (step, process) are those of number `phase` modulo `period`."""
        return self.number % period == phase % period

    def _load(self) -> None:
        main, compute, h2d = self.main, self.streams[COMPUTE], self.streams[H2D]
        cleared = main.call("cudaMemsetAsync", 3_000)
        self._memset(cleared, compute, POOL_BYTES)
        opened = main.mark()
        self._blocking_copy("cudaMemcpyAsync", LABEL_BYTES, HTOD, PAGEABLE, DEVICE, RATE["pageable"])
        copied = main.call("cudaMemcpyAsync", 4_500)
        self._copy(copied, h2d, BATCH_BYTES, HTOD, PINNED, DEVICE, RATE["pinned"])
        self._event(main.call("cudaEventRecord", 1_200), H2D, 1)
        self._wait_event(main, COMPUTE, 1)
        compute.free = np.maximum(compute.free, h2d.free)
        self._range("load", MAIN, opened, main.mark(), category="h2d", nbytes=BATCH_BYTES + LABEL_BYTES)

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
            slots.append(script.add(_launcher(number), LAUNCH_NS, pause))
            if inside and place in (5, 9):
                first = special if number == 5 else slots[-6 if place == 5 else -4]
                spans.append(("attention" if place == 5 else "mlp", first, slots[-1], 400))
            if inside and place == 9:
                spans.append((f"layer{layer}", special if layer == 0 else slots[-10], slots[-1], 900))
        made = self._play(main, script, slots, special)
        kernels = [LAYER[n % 10] if n // 10 < layout.layers else HEAD[n % len(HEAD)] for n in range(layout.forward)]
        small = np.arange(layout.forward) < layout.layers // 2 * len(LAYER)
        self._launch(kernels, made, np.array(slots), COMPUTE, np.where(small, SMALL, 1.0), "step/forward")
        for name, a, b, margin in spans:
            self._range(name, MAIN, made.start[..., a] - margin, made.end[..., b] + margin - 100)
        moved = main.call("cudaMemcpyAsync", 4_000)
        self._copy(moved, self.streams[COMPUTE], STATE_BYTES, DTOD, DEVICE, DEVICE, RATE["device"])
        logged = main.call("cudaMemcpyAsync", 4_000)
        self._copy(logged, self.streams[D2H], LOG_BYTES, DTOH, DEVICE, PINNED, RATE["pinned"])
        self._range("forward", MAIN, opened, main.mark())
        waited = main.waiting_call("cudaStreamSynchronize", self.streams[COMPUTE].free)
        self._sync(waited, COMPUTE, STREAM_WAITS, 0xFFFFFFFF)

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
            slots.append(script.add(_launcher(number), LAUNCH_NS))
            if number in due:
                recorded = script.add("cudaEventRecord", 1_200)
                waited = script.add("cudaStreamWaitEvent", 900)
                launched = script.add("cudaLaunchKernelExC", 6_000, 3_000)
                ended = script.add("cudaEventRecord", 1_200, 3_000)
                buckets.append((due[number], number, recorded, waited, launched, ended))
        made = self._play(autograd, script, slots, -1)
        kernels = [BACKWARD[n % len(BACKWARD)] for n in range(layout.backward)]
        ends = self._launch(kernels, made, np.array(slots), COMPUTE, BACKWARD_SCALE, "step/backward")
        for bucket, number, recorded, waited, launched, ended in buckets:
            self._event(_one(made, recorded), COMPUTE, 2 + bucket)
            self._sync(_one(made, waited), COMM, STREAM_WAITS, 2 + bucket)
            self._collective(bucket, ends[..., number], _one(made, launched))
            self._event(_one(made, ended), COMM, COLLECTIVE_EVENTS + bucket)
        closed = autograd.now + spread(self.rng, 20_000, self.rec.shape)
        loader = self._prefetch(opened, closed)
        main.now = closed
        self._range("backward", MAIN, opened, main.mark())
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
        self._range(COLLECTIVE_RANGES[kind], AUTOGRAD, launch.start - 700, launch.end + 700, domain="NCCL")

    def _prefetch(self, opened: Times, closed: Times) -> Times:
        span, present = closed - opened, self.every(4, 0)
        loader = Thread(self.rec, self.rng, LOADER, opened + span // 5)
        begin = loader.mark()
        grown = self.every(52, 0)
        held = loader.call("cudaHostAlloc", 250_000, present=grown)
        self._memory(held, PINNED, BATCH_BYTES, False, grown)
        loader.now = np.maximum(loader.now, opened + span // 3)
        copied = loader.call("cudaMemcpyAsync", 5_000, present=present)
        self._copy(copied, self.streams[PREFETCH], BATCH_BYTES, HTOD, PINNED, DEVICE, RATE["pinned"], present=present)
        loader.call("cudaEventRecord", 1_200, present=present)
        end = loader.mark()
        self._range("prefetch", LOADER, begin, end, category="h2d", nbytes=BATCH_BYTES, present=present)
        return loader.now

    def _optimize(self) -> None:
        main, layout, compute = self.main, self.layout, self.streams[COMPUTE]
        opened = main.mark()
        self._wait_event(main, COMPUTE, COLLECTIVE_EVENTS + layout.collectives - 1)
        compute.free = np.maximum(compute.free, self.streams[COMM].free)
        several = len(set(self.devices)) > 1
        moved = main.call("cudaMemcpyAsync", 4_500, present=self.every(10, 3) & several)
        self._copy(moved, self.streams[COMM], STATE_BYTES, PTOP, DEVICE, DEVICE, RATE["peer"], present=self.every(10, 3) & several)
        script = Script()
        slots = [script.add(_launcher(n), LAUNCH_NS) for n in range(layout.optimizer)]
        made = self._play(main, script, slots, -1)
        kernels = [OPTIMIZER[n % len(OPTIMIZER)] for n in range(layout.optimizer)]
        self._launch(kernels, made, np.array(slots), COMPUTE, 1.0, "step/optimizer")
        if layout.graph:
            self._graphs()
        self._range("optimizer", MAIN, opened, main.mark())

    def _graphs(self) -> None:
        """Graph launches: every kernel of one shares the launch's correlation and is ready with it."""
        main, nodes = self.main, np.arange(self.layout.graph)
        rebuilt = self.every(64, 32)
        main.call("cudaGraphInstantiateWithFlags", 400_000, present=rebuilt)
        script = Script()
        launches = [script.add("cudaGraphLaunch", 9_000, 4_000) for _ in range(-(-len(nodes) // GRAPH_NODES))]
        made = self._play(main, script, launches, -1)
        graph = nodes // GRAPH_NODES
        kernels = [GRAPH[n % len(GRAPH)] for n in nodes.tolist()]
        self._launch(kernels, made, np.array(launches)[graph], COMPUTE, 1.0, "step/optimizer", node=graph_nodes(len(nodes)))

    def _finish(self) -> None:
        main, streams = self.main, self.streams
        self._blocking_copy("cudaMemcpyAsync", 4, DTOH, DEVICE, PAGEABLE, RATE["pageable"])
        waited = main.waiting_call("cudaStreamSynchronize", streams[COMPUTE].free)
        self._sync(waited, COMPUTE, STREAM_WAITS, 0xFFFFFFFF)
        main.waiting_call("cudaDeviceSynchronize", np.maximum.reduce([s.free for s in streams.values()]))

    def _housekeeping(self) -> None:
        """Between steps, outside every range: an emptied pool, and the profiler flushing its buffers."""
        main = self.main
        emptied = self.every(10, 9)
        freed = main.call("cudaFree", 150_000, 20_000, emptied)
        self._memory(freed, DEVICE, POOL_BYTES, True, emptied)
        taken = main.call("cudaMalloc", 200_000, 20_000, emptied)
        self._memory(taken, DEVICE, POOL_BYTES, False, emptied)
        flushed = self.every(16, 15)
        start = main.mark(30_000)
        main.now = main.now + np.where(flushed, 420_000, 0)
        self.rec.overhead.append({"start": start, "end": start + 400_000, "thread": MAIN, "present": flushed})

    def _play(self, thread: Thread, script: Script, slots: list[int], special: int) -> Done:
        """Make the calls of `script`. In rare steps `special` is a slow call, and in the first some launches are too.

        About one in 500 of the small calls is a launch that fails: no device row belongs to it.
        """
        shape = (*self.rec.shape, len(script.names))
        names = np.broadcast_to(np.array(script.names), shape).copy()
        gap, duration = spread(self.rng, script.gaps, shape), spread(self.rng, script.durations, shape)
        small = np.array([d == SMALL_CALL_NS for d in script.durations])
        small[special] &= special < 0
        failed = small & (self.rng.random(shape, dtype=np.float32) < 0.002)
        names[failed] = CALL["cudaLaunchKernel"]
        if special >= 0:
            for when, name, mean in (
                (self.number == 0, "cuLibraryLoadData", 3_000_000),
                (self.every(20, 7), "cudaMalloc", 180_000),
                (self.every(20, 13), "cudaFree", 120_000),
            ):
                names[..., special][when] = CALL[name]
                duration[..., special][when] = spread(self.rng, mean, self.rec.shape)[when]
        duration[..., slots[::17]] += np.where(self.number == 0, 1_500_000, 0)[..., None]
        made = thread.burst(names, gap, duration, np.where(failed, INVALID_CONFIGURATION, 0))
        if special >= 0:
            for phase, is_free in ((7, False), (13, True)):
                self._memory(_one(made, special), DEVICE, STATE_BYTES, is_free, self.every(20, phase))
        return made

    def _launch(
        self, kernels: list[Kernel], made: Done, slots: Any, stream: int, scale: Any, stage: str, node: Any = 0
    ) -> Times:
        """Run `kernels` on `stream` for the launches in `slots` of `made`; returns their ends."""
        shape = (*self.rec.shape, len(kernels))
        number = np.array([NUMBER[k] for k in kernels])
        mean = np.array([k.mean_ns for k in KERNELS])[number] * scale
        latency = self.rng.integers(1_500, 4_000, shape)
        duration = np.maximum(spread(self.rng, mean, shape), 900)
        start, end = self.streams[stream].run(
            made.end[..., slots] + latency, self.rng.integers(350, 1_200, shape), duration
        )
        columns = {"number": number, "start": start, "end": end, "slot": made.slot[slots], "stream": stream}
        self.rec.kernels.append(columns | {"node": node, "stage": stage})
        return end

    def _copy(
        self, made: Done, stream: Stream, nbytes: int, kind: int, src: int, dst: int, rate: int, present: Any = True
    ) -> None:
        free = stream.free
        duration = spread(self.rng, nbytes / rate + 1_200, self.rec.shape)
        start, end = stream.run_one(made.end + self.rng.integers(1_500, 4_000, self.rec.shape), duration)
        stream.free = np.where(present, end, free)
        self._copied(start, end, made, stream.number, nbytes, kind, src, dst, present)

    def _blocking_copy(self, name: str, nbytes: int, kind: int, src: int, dst: int, rate: int) -> None:
        """A copy with pageable memory on the compute stream: the call returns when the copy is done."""
        compute, begin = self.streams[COMPUTE], self.main.now + 4_000
        start, end = compute.run_one(begin + 1_500, spread(self.rng, nbytes / rate + 1_200, self.rec.shape))
        made = self.main.waiting_call(name, end, gap_ns=2_500)
        late = np.maximum(made.start + 1_000 - start, 0)
        compute.free = end = end + late
        self.main.now = np.maximum(self.main.now, end + 1_500)
        self.rec.calls[-1]["end"] = self.main.now
        self._copied(start + late, end, made, COMPUTE, nbytes, kind, src, dst, True)

    def _copied(
        self, start: Times, end: Times, made: Done, stream: int, nbytes: int, kind: int, src: int, dst: int, present: Any
    ) -> None:
        columns = {"start": start, "end": end, "slot": made.slot, "stream": stream, "present": present}
        self.rec.copies.append(columns | {"bytes": nbytes, "kind": kind, "src": src, "dst": dst})

    def _memset(self, made: Done, stream: Stream, nbytes: int) -> None:
        start, end = stream.run_one(made.end + 1_500, spread(self.rng, nbytes / 1_300, self.rec.shape))
        columns = {"start": start, "end": end, "slot": made.slot, "stream": stream.number, "present": True}
        self.rec.memsets.append(columns | {"bytes": nbytes})

    def _event(self, made: Done, stream: int, event: int) -> None:
        self.rec.events.append({"start": made.start, "slot": made.slot, "stream": stream, "event": event, "present": True})

    def _wait_event(self, thread: Thread, stream: int, event: int) -> None:
        self._sync(thread.call("cudaStreamWaitEvent", 1_000), stream, STREAM_WAITS, event)

    def _sync(self, made: Done, stream: int, kind: int, event: int) -> None:
        columns = {"start": made.start + 250, "end": made.end - 150, "slot": made.slot, "stream": stream}
        self.rec.syncs.append(columns | {"type": kind, "event": event, "present": True})

    def _memory(self, made: Done, kind: int, nbytes: int, is_free: bool, present: Any) -> None:
        columns = {"start": made.end - 100, "slot": made.slot, "bytes": nbytes, "kind": kind}
        self.rec.memory.append(columns | {"is_free": is_free, "present": present})

    def _range(
        self,
        name: str,
        thread: int,
        start: Times,
        end: Times,
        *,
        domain: str = "aisp",
        category: str | None = None,
        nbytes: int | None = None,
        present: Any = True,
    ) -> None:
        columns = {"start": start, "end": end, "name": name, "thread": thread, "domain": domain}
        self.rec.ranges.append(columns | {"category": category, "nbytes": nbytes, "present": present})


def graph_nodes(count: int) -> Times:
    """graphNodeId of `count` nodes in graphs of `GRAPH_NODES`: the graph's number above bit 32, as nsys writes it."""
    nodes = np.arange(count)
    return (nodes // GRAPH_NODES + 1 << 32) + nodes % GRAPH_NODES


def _launcher(number: int) -> str:
    return ("cudaLaunchKernel", "cudaLaunchKernel", "cuLaunchKernelEx")[number % 3]


def _one(made: Done, position: int) -> Done:
    return Done(made.start[..., position], made.end[..., position], made.slot[position : position + 1])
