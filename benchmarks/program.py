"""What every phase of the synthetic training is made of: bursts of calls, launches, copies, waits and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from aisp_trace.benchmarks.kernel_catalog import CALL, KERNELS, NUMBER, Kernel
from aisp_trace.benchmarks.timeline import MAIN, Done, Mask, Recording, Script, Stream, Thread, Times, spread

COMPUTE, H2D, D2H, COMM, PREFETCH = 7, 13, 17, 21, 25
STREAMS: Final = (COMPUTE, H2D, D2H, COMM, PREFETCH)
"""Stream ids of every process; 7 is the default stream, as in real exports."""

PAGEABLE, PINNED, DEVICE = 0, 1, 2
HTOD, DTOH, DTOD, PTOP = 1, 2, 8, 10

STREAM_WAITS: Final = 2
"""syncType as nsys 2025.3 writes it for cudaStreamSynchronize and cudaStreamWaitEvent alike."""

LAUNCH_NS, SMALL_CALL_NS = 3_500, 350
BATCH_BYTES, LABEL_BYTES, LOG_BYTES, STATE_BYTES, POOL_BYTES = 16 << 20, 256 << 10, 4 << 20, 8 << 20, 64 << 20
RATE: Final = {"pinned": 52, "pageable": 8, "device": 1_300, "peer": 300}
"""Bytes per nanosecond of a copy."""

INVALID_CONFIGURATION: Final = 9
"""cudaErrorInvalidConfiguration."""
NO_EVENT: Final = 0xFFFFFFFF
"""eventId of a wait that is not for an event."""
COLLECTIVE_EVENTS: Final = 1_024
"""Event id of the first collective's completion; the ids below are those of what the collectives wait for."""


class Program:
    """A number of steps of every process, simulated together, and the primitives that record them.

    `number` is the step of each row of the arrays; every device is named by a number, one for each process.
    """

    def __init__(self, rng: np.random.Generator, first: int, count: int, devices: Sequence[int]) -> None:
        shape = (count, len(devices))
        self.rng = rng
        self.devices = devices
        self.rec = Recording(shape)
        self.number = np.broadcast_to(np.arange(first, first + count)[:, None], shape)
        self.streams = {number: Stream(number, shape) for number in STREAMS}
        self.main = Thread(self.rec, rng, MAIN, rng.integers(2_000, 20_000, shape))

    def every(self, period: int, phase: int) -> Mask:
        """Which (step, process) are those of number `phase` modulo `period`."""
        mask: Mask = self.number % period == phase % period
        return mask

    def play(self, thread: Thread, script: Script, slots: list[int], special: int) -> Done:
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
                self.memory(one(made, special), DEVICE, STATE_BYTES, is_free, self.every(20, phase))
        return made

    def launch(
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

    def copy(
        self, made: Done, stream: Stream, nbytes: int, kind: int, src: int, dst: int, rate: int, present: Any = True
    ) -> None:
        free = stream.free
        duration = spread(self.rng, nbytes / rate + 1_200, self.rec.shape)
        start, end = stream.run_one(made.end + self.rng.integers(1_500, 4_000, self.rec.shape), duration)
        stream.free = np.where(present, end, free)
        self._copied(start, end, made, stream.number, nbytes, kind, src, dst, present)

    def blocking_copy(self, name: str, nbytes: int, kind: int, src: int, dst: int, rate: int) -> None:
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
        self,
        start: Times,
        end: Times,
        made: Done,
        stream: int,
        nbytes: int,
        kind: int,
        src: int,
        dst: int,
        present: Any,
    ) -> None:
        columns = {"start": start, "end": end, "slot": made.slot, "stream": stream, "present": present}
        self.rec.copies.append(columns | {"bytes": nbytes, "kind": kind, "src": src, "dst": dst})

    def memset(self, made: Done, stream: Stream, nbytes: int) -> None:
        start, end = stream.run_one(made.end + 1_500, spread(self.rng, nbytes / 1_300, self.rec.shape))
        columns = {"start": start, "end": end, "slot": made.slot, "stream": stream.number, "present": True}
        self.rec.memsets.append(columns | {"bytes": nbytes})

    def event(self, made: Done, stream: int, event: int) -> None:
        self.rec.events.append(
            {"start": made.start, "slot": made.slot, "stream": stream, "event": event, "present": True}
        )

    def wait_event(self, stream: int, event: int) -> None:
        self.sync(self.main.call("cudaStreamWaitEvent", 1_000), stream, event)

    def sync(self, made: Done, stream: int, event: int) -> None:
        columns = {"start": made.start + 250, "end": made.end - 150, "slot": made.slot, "stream": stream}
        self.rec.syncs.append(columns | {"type": STREAM_WAITS, "event": event, "present": True})

    def memory(self, made: Done, kind: int, nbytes: int, is_free: bool, present: Any) -> None:
        columns = {"start": made.end - 100, "slot": made.slot, "bytes": nbytes, "kind": kind}
        self.rec.memory.append(columns | {"is_free": is_free, "present": present})

    def range(
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


def one(made: Done, position: int) -> Done:
    """One call of a burst."""
    return Done(made.start[..., position], made.end[..., position], made.slot[position : position + 1])


def launcher(number: int) -> str:
    """The call that launches kernel `number` of a burst: PyTorch's own, or a library's through the driver."""
    return ("cudaLaunchKernel", "cudaLaunchKernel", "cuLaunchKernelEx")[number % 3]
