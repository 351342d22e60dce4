"""Measure one variant in this process.

    timed       prepare | warm-up | fresh inputs, iteration | fresh inputs, iteration, examine | ... | energy pass | close
    recorded    prepare | warm-up | fresh inputs | measured( graphs iteration iteration ... ) | examine | close

Every iteration, whether it warms up, is timed, recorded or verified, is the same code: `_Measurement.once`. It starts
on an idle device and ends when the device is idle again. Timed is what lies between, the closing synchronisation (and
with it some microseconds in which the host learns of the end) included, on every stream and thread.

What is examined, and how, is in proof.py. After it the device's pool holds what the reference left: it is emptied, and
`SETTLING` iterations, which do not count, fill it again as the variant does.

Between timed iterations a GPU mostly waits for fresh inputs and comparisons, so the energy of that span is not that of the
iterations. The energy pass gives it: on a GPU, after the last comparison, the same iteration runs back to back for half a second
(`traces.run.repetitions`), resets and flushes included. Nothing of the pass is timed, counted or compared.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from ..capture.stages import iteration, measured, stage
from ..traces.run import Allocator, VariantResult, repetitions
from .interface import Problem, Program, Variant
from .proof import AWAIT, ELAPSED_MS, RECORD, Witness
from .running import CLOCK, PROCESS_NS, SYNCHRONIZE
from .surroundings import SWEPT

L2_MULTIPLE: Final = 2
"""The flush writes this many times the L2 cache's size, so that no line of an earlier iteration stays."""

SETTLING: Final = 2
"""Iterations after an examined one: the first allocates, the second finds whether that was enough."""


def measure(
    program: Program[Any], problem: Problem, name: str, device: torch.device, iterations: int, warmup: int, traced: bool
) -> VariantResult:
    """Run variant `name`; `traced` puts the measured iterations inside the recording gate.

    A wrong output, or work not done, is part of the result; whatever the variant raises is passed on after its `close`.
    """
    witness = Witness(problem, name, iterations, traced)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the witness's first look left in the pool
    start = CLOCK()
    variant = program.variants[name](problem)
    try:
        variant.prepare()
        variant.graphs()
        if device.type == "cuda":
            SYNCHRONIZE()
        prepare_ns = CLOCK() - start
        witness.meet(variant)
        measurement = _Measurement(variant, device, program.flush_l2)
        for _ in range(warmup):
            witness.renew()
            measurement.once()
        if warmup:
            witness.remember()
        gc.collect()
        counters = _Counters(device)
        run = _recorded if traced else _timed
        ran = run(problem, witness, measurement, counters, iterations)
        work = witness.work()
        kernels = dict(variant.kernels())
        witness.end()
    finally:
        variant.close()
    witness.leave(alone=program.entry.process_per_variant)
    return VariantResult(
        name=name,
        timer=measurement.timer,
        iterations_ns=ran.times,
        work=work,
        output=witness.output(),
        allocator=counters.counted(),
        proof=witness.proof(ran.times, prepare_ns, ran.reset_ns),
        timed_ns=ran.timed_ns,
        repeated_ns=ran.repeated_ns,
        repeated=ran.repeated,
        kernels=kernels,
    )


@dataclass(frozen=True, slots=True)
class _Ran:
    """The iterations' times, when they began and ended, and the mean reset until then; the same of the energy pass."""

    times: list[int]
    timed_ns: tuple[int, int]
    reset_ns: int
    repeated_ns: tuple[int, ...] = ()
    repeated: int = 0


def _timed(problem: Problem, witness: Witness, measurement: _Measurement, counters: _Counters, iterations: int) -> _Ran:
    """Every iteration on inputs of its own, and on a GPU the energy pass on those of the last one."""
    times = []
    start = CLOCK()
    with problem.around(_nothing()):
        for number in range(iterations):
            witness.renew()
            if number in witness.poisoned and measurement.ran:
                witness.poison()
            with counters.counting():
                times.append(measurement.once())
            end = CLOCK()
            if number in witness.compared:
                witness.examine(number, measurement.gap_ns, measurement.swept_ns)
                if number == witness.compared[-1]:
                    witness.once_more(measurement.once)
                if number < iterations - 1:
                    measurement.settle()
        reset_ns = measurement.reset_ns
        again = _repeated(problem, measurement, times) if measurement.cuda else ((), 0)
    return _Ran(times, (start, end), reset_ns, *again)


def _repeated(problem: Problem, measurement: _Measurement, times: list[int]) -> tuple[tuple[int, ...], int]:
    """The energy pass: when its iterations began and ended, and how many they were. All ranks run as many."""
    count = problem.agree(repetitions(times, measurement.reset_ns))
    measurement.settle()
    start = CLOCK()
    for _ in range(count):
        measurement.once()
    return (start, CLOCK()), count


def _recorded(
    problem: Problem, witness: Witness, measurement: _Measurement, counters: _Counters, iterations: int
) -> _Ran:
    """The same inside the recording: one draw of inputs for all iterations. Graphs are captured again before the first one."""
    witness.renew()
    with problem.around(measured()):
        measurement.graphs_again()
        with counters.counting():
            start = CLOCK()
            times = [measurement.once() for _ in range(iterations)]
            end = CLOCK()
    witness.examine(iterations - 1, measurement.gap_ns, measurement.swept_ns)
    witness.once_more(measurement.once)
    return _Ran(times, (start, end), measurement.reset_ns)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _plainly(reset: Callable[[], None]) -> None:
    reset()


class _Measurement:
    """How one iteration of one variant is run and timed.

    `gap_ns` is what went by between the end of the latest iteration on the host's clock and the harness's next step;
    `swept_ns` is what collections of garbage had taken before it and after it; `ran`: any iteration was.
    """

    def __init__(self, variant: Variant, device: torch.device, flush_l2: bool) -> None:
        self._variant = variant
        self._resets = type(variant).reset is not Variant.reset
        self.cuda = device.type == "cuda"
        self._flush: torch.Tensor | None = None
        if self.cuda:
            self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if flush_l2:
                cache: int = torch.cuda.get_device_properties(device).L2_cache_size
                self._flush = torch.empty(L2_MULTIPLE * cache, dtype=torch.uint8, device=device)
        self.timer = "cuda_event" if self.cuda else "perf_counter"
        self.gap_ns = self._reset_ns = self._reset_count = 0
        self.swept_ns = (0, 0)
        self.ran = False

    def once(self, calling: Callable[[Callable[[], None]], None] = _plainly) -> int:
        """One iteration; returns its time in nanoseconds (CUDA events resolve half a microsecond). `calling` calls `reset`."""
        self.ran = True
        if self._resets:
            start, worked = CLOCK(), PROCESS_NS()
            with stage("reset", kind="host"):
                calling(self._variant.reset)
        if self._flush is not None:
            with stage("flush_l2", kind="host"):
                self._flush.zero_()
        if self.cuda:
            SYNCHRONIZE()
        if self._resets and calling is _plainly:
            took = CLOCK() - start
            self._reset_ns += took if self.cuda else min(took, PROCESS_NS() - worked)
            self._reset_count += 1
        return self._once_on_cuda() if self.cuda else self._once_on_cpu()

    @property
    def reset_ns(self) -> int:
        """What an iteration's reset takes: the mean of all so far; 0 without any.

        On a CPU what the process computes meanwhile, if that is less: on busy cores others run in between. (Others that work for
        it are found by `running`.)
        """
        return self._reset_ns // self._reset_count if self._reset_count else 0

    def graphs_again(self) -> None:
        """Capture the variant's graphs again, if it has any, and replay them once: a graph's first launch uploads it."""
        if type(self._variant).graphs is Variant.graphs:
            return
        self._variant.graphs()
        self._variant.reset()
        self._variant.iteration()
        if self.cuda:
            SYNCHRONIZE()

    def settle(self) -> None:
        """Bring everything back to where a comparison found it."""
        if self.cuda:
            torch.cuda.empty_cache()
        for _ in range(SETTLING):
            self.once()

    def _once_on_cuda(self) -> int:
        swept = SWEPT.ns
        RECORD(self._start)
        with iteration():
            self._variant.iteration()
            SYNCHRONIZE()
        RECORD(self._end)  # after the synchronisation: it then lies behind the work of all streams
        AWAIT(self._end)
        end = CLOCK()
        self.gap_ns = CLOCK() - end
        self.swept_ns = (swept, SWEPT.ns)
        return int(ELAPSED_MS(self._start, self._end) * 1e6)

    def _once_on_cpu(self) -> int:
        swept = SWEPT.ns
        with iteration():
            start = CLOCK()
            self._variant.iteration()
            end = CLOCK()
        self.gap_ns = CLOCK() - end
        self.swept_ns = (swept, SWEPT.ns)
        return end - start


class _Counters:
    """torch's allocator counters over the measured iterations alone; the CPU allocator has none."""

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._grown = dict.fromkeys(("num_alloc_retries", "num_ooms", "segment.all.allocated", "segment.all.freed"), 0)
        self._reserved: list[int] = []
        self._peak = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Around one or more iterations; what happens outside is not counted."""
        if self._device is None:
            yield
            return
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_stats(self._device)
        yield
        after = torch.cuda.memory_stats(self._device)
        for key in self._grown:
            self._grown[key] += int(after.get(key, 0)) - int(before.get(key, 0))
        self._reserved += [int(stats.get("reserved_bytes.all.current", 0)) for stats in (before, after)]
        self._peak = max(self._peak, int(after.get("allocated_bytes.all.peak", 0)))

    def counted(self) -> Allocator:
        """The sums; `peak_bytes` is the highest sum of live tensors, `reserved_bytes` that of the first and last iteration."""
        if self._device is None:
            return Allocator()
        return Allocator(
            retries=self._grown["num_alloc_retries"],
            ooms=self._grown["num_ooms"],
            reserved_bytes_before=self._reserved[0],
            reserved_bytes_after=self._reserved[-1],
            peak_bytes=self._peak,
            segments_allocated=self._grown["segment.all.allocated"],
            segments_freed=self._grown["segment.all.freed"],
        )
