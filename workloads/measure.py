"""Measure one variant in this process.

    prepare | warm-up iterations | measured( iteration iteration ... ) | compare | poison | iteration | compare | close

Every iteration, whether it warms up, is timed, recorded or verified, is the same code: `_Measurement.once`. It starts
on an idle device and ends when the device is idle again. Timed is what lies between, the closing synchronisation (and
with it some microseconds in which the host learns of the end) included, on every stream and thread.
"""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from typing import Any, Final

import torch

from ..capture.stages import iteration, measured, stage
from ..traces.run import Allocator, VariantResult
from .interface import Problem, Program, Variant
from .verify import compare, poison, worse

L2_MULTIPLE: Final = 2
"""The flush writes this many times the L2 cache's size, so that no line of an earlier iteration stays."""


def measure(
    program: Program[Any], problem: Problem, name: str, device: torch.device, iterations: int, warmup: int, traced: bool
) -> VariantResult:
    """Run variant `name`; `traced` puts the measured iterations inside the recording gate.

    A wrong output is part of the result; whatever the variant raises is passed on after its `close`.
    """
    variant = program.variants[name](problem)
    tolerance = variant.tolerance or problem.tolerance
    try:
        variant.prepare()
        measurement = _Measurement(variant, device, program.flush_l2)
        for _ in range(warmup):
            measurement.once()
        gc.collect()
        counters = _Counters(device)
        with problem.around(measured() if traced else nullcontext()):
            times = [measurement.once() for _ in range(iterations)]
        allocator = counters.since()
        output = compare(variant.outputs(), problem.reference(), tolerance)
        poison(variant.outputs())
        poison(variant.scratch())
        measurement.once()
        output = worse(output, compare(variant.outputs(), problem.reference(), tolerance))
        work = variant.work()
    finally:
        variant.close()
    return VariantResult(
        name=name, timer=measurement.timer, iterations_ns=times, work=work, output=output, allocator=allocator
    )


class _Measurement:
    """How one iteration of one variant is run and timed."""

    def __init__(self, variant: Variant, device: torch.device, flush_l2: bool) -> None:
        self._variant = variant
        self._resets = type(variant).reset is not Variant.reset
        self._cuda = device.type == "cuda"
        self._flush: torch.Tensor | None = None
        if self._cuda:
            self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if flush_l2:
                cache: int = torch.cuda.get_device_properties(device).L2_cache_size
                self._flush = torch.empty(L2_MULTIPLE * cache, dtype=torch.uint8, device=device)
        self.timer = "cuda_event" if self._cuda else "perf_counter"

    def once(self) -> int:
        """One iteration; returns its time in nanoseconds (CUDA events resolve half a microsecond)."""
        if self._resets:
            with stage("reset", kind="host"):
                self._variant.reset()
        if self._flush is not None:
            with stage("flush_l2", kind="host"):
                self._flush.zero_()
        return self._once_on_cuda() if self._cuda else self._once_on_cpu()

    def _once_on_cuda(self) -> int:
        torch.cuda.synchronize()
        self._start.record()
        with iteration():
            self._variant.iteration()
            torch.cuda.synchronize()
        self._end.record()  # after the synchronisation: it then lies behind the work of all streams
        self._end.synchronize()
        return int(self._start.elapsed_time(self._end) * 1e6)

    def _once_on_cpu(self) -> int:
        with iteration():
            start = time.perf_counter_ns()
            self._variant.iteration()
            return time.perf_counter_ns() - start


class _Counters:
    """torch's allocator counters over the measured iterations; the CPU allocator has none."""

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_stats(self._device)

    def since(self) -> Allocator:
        """Differences since construction; `peak_bytes` is the highest sum of live tensors."""
        if self._device is None:
            return Allocator()
        before, after = self._before, torch.cuda.memory_stats(self._device)

        def grown(key: str) -> int:
            return int(after.get(key, 0)) - int(before.get(key, 0))

        return Allocator(
            retries=grown("num_alloc_retries"),
            ooms=grown("num_ooms"),
            reserved_bytes_before=int(before.get("reserved_bytes.all.current", 0)),
            reserved_bytes_after=int(after.get("reserved_bytes.all.current", 0)),
            peak_bytes=int(after.get("allocated_bytes.all.peak", 0)),
            segments_allocated=grown("segment.all.allocated"),
            segments_freed=grown("segment.all.freed"),
        )
