"""Clocks, power and temperature of the GPUs while a process is timed, read through NVML by this process, not by the timed one.

    with watch("cuda", environment) as watched:      samples before, every 50 ms, and after
        run the process
    watched.states({"baseline": span, "optimized": ()})      one `GpuState` a variant and GPU

    samples      |    |    |    |    |    |    |         each on CLOCK_MONOTONIC, as are the spans
    spans              [ baseline )   [ optimized )
    energy             ^          ^                      at a span's end: between the two samples beside it

Needs nvidia-ml-py (``import pynvml``). Without it, without a driver or without a GPU nothing is recorded, and nothing fails.
Nothing is set: clocks are looked at, never locked.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from ..traces.run import GpuState
from .host import visible_rows

PERIOD_S: Final = 0.05
"""Between two samples. NVML renews its figures about every 20 to 100 ms, so more would only read them twice."""

PATIENCE_S: Final = 5.0
"""How long a last answer of the driver is waited for; a thread that hangs in it is left behind and ends with this process."""

REASONS: Final = {
    0x1: "idle",
    0x2: "applications' clocks",
    0x4: "power cap",
    0x8: "hardware",
    0x10: "sync boost",
    0x20: "thermal",
    0x40: "thermal",
    0x80: "hardware",
    0x100: "display",
}
"""Why a clock is held down, by the bits of ``nvmlClocksEventReason*`` (nvml.h, group NvmlClocksEventReasons). 0x8 is set as well
where the hardware slows for heat (0x40) or for its power brake (0x80)."""

OTHER: Final = "other"
"""A bit that `REASONS` does not know."""

SM_CLOCK: Final = 1
MEMORY_CLOCK: Final = 2
GPU_SENSOR: Final = 0
"""NVML_CLOCK_SM, NVML_CLOCK_MEM and NVML_TEMPERATURE_GPU of nvml.h."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One GPU at one instant of CLOCK_MONOTONIC. What NVML did not answer is null; `reasons` are its bits."""

    at_ns: int
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    power_mw: int | None = None
    temperature_c: int | None = None
    reasons: int | None = None
    energy_mj: int | None = None


@dataclass(slots=True)
class Watched:
    """The samples of each GPU by its number, and when the process was started and had ended; no GPU where none can be read."""

    samples: dict[int, list[Sample]] = field(default_factory=dict)
    start_ns: int = 0
    end_ns: int = 0

    def states(self, spans: Mapping[str, Sequence[int]]) -> dict[str, tuple[GpuState, ...]]:
        """Each variant's state of each GPU over its span, half-open; an empty span stands for the whole process."""
        if not any(self.samples.values()):
            return {}
        whole = (self.start_ns, self.end_ns)
        return {
            name: tuple(state(gpu, found, *(span if len(span) == 2 else whole)) for gpu, found in self.samples.items())
            for name, span in spans.items()
        }


@contextmanager
def watch(
    device: str, environment: Mapping[str, str], *, clock: Callable[[], int] = time.monotonic_ns
) -> Iterator[Watched]:
    """While inside, sample the GPUs that a process with this `environment` may use; none where `device` is not "cuda".

    The thread that samples ends with the block, also where it is interrupted. Raises nothing of its own.
    """
    watched = Watched(start_ns=clock())
    nvml = _loaded() if device == "cuda" else None
    handles = {} if nvml is None else _handles(nvml, environment)
    if not handles:
        if nvml is not None:
            _shut_down(nvml)
        yield watched
        return
    watched.samples = {gpu: [] for gpu in handles}

    def look() -> None:
        for gpu, handle in handles.items():
            if (found := read(nvml, handle, clock)) is not None:
                watched.samples[gpu].append(found)

    def keep_looking() -> None:
        while not over.wait(PERIOD_S):
            look()

    over = threading.Event()
    thread = threading.Thread(target=keep_looking, name="aisp-trace-power", daemon=True)
    look()
    watched.start_ns = clock()
    thread.start()
    try:
        yield watched
    finally:
        watched.end_ns = clock()
        over.set()
        thread.join(PATIENCE_S)
        if not thread.is_alive():  # else the driver hangs, and would once more
            look()
            _shut_down(nvml)


def read(nvml: Any, handle: Any, clock: Callable[[], int] = time.monotonic_ns) -> Sample | None:
    """One sample; what the GPU does not tell, or not any more, is null. Null if it tells nothing at all."""

    def ask(call: str, *arguments: int) -> int | None:
        try:
            return int(getattr(nvml, call)(handle, *arguments))
        except (nvml.NVMLError, AttributeError):  # an older binding lacks the newer names
            return None

    at_ns = clock()
    energy = ask("nvmlDeviceGetTotalEnergyConsumption")
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # its name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    found = Sample(
        at_ns,
        sm_mhz=ask("nvmlDeviceGetClockInfo", SM_CLOCK),
        memory_mhz=ask("nvmlDeviceGetClockInfo", MEMORY_CLOCK),
        power_mw=ask("nvmlDeviceGetPowerUsage"),
        temperature_c=ask("nvmlDeviceGetTemperature", GPU_SENSOR),
        reasons=reasons,
        energy_mj=energy,
    )
    return None if found == Sample(at_ns) else found


def state(gpu: int, samples: Sequence[Sample], start_ns: int, end_ns: int) -> GpuState:
    """What `samples` of one GPU, ascending, say of [start, end); a span shorter than their distance holds one or none of them."""
    inside = [s for s in samples if start_ns <= s.at_ns < end_ns]
    temperatures = [s.temperature_c for s in inside if s.temperature_c is not None]
    start, end = energy_at(samples, start_ns), energy_at(samples, end_ns)
    energy = round(end - start) if start is not None and end is not None and end_ns > start_ns else None
    powers = [s.power_mw for s in inside if s.power_mw is not None]
    power = None
    if energy is not None:  # mJ / ns = MW
        power = energy * 1e6 / (end_ns - start_ns)
    elif powers:
        power = sum(powers) / len(powers) / 1e3
    return GpuState(
        gpu=gpu,
        samples=len(inside),
        sm_mhz=_range([s.sm_mhz for s in inside]),
        memory_mhz=_range([s.memory_mhz for s in inside]),
        power_w=None if power is None else round(power, 3),
        temperature_c=max(temperatures, default=None),
        slowdown=slowdown([s.reasons for s in inside]),
        energy_mj=energy,
    )


def energy_at(samples: Sequence[Sample], at_ns: int) -> float | None:
    """The GPU's energy counter at `at_ns`, linear between the samples beside it; null outside all, or where it was reset."""
    known = [(s.at_ns, s.energy_mj) for s in samples if s.energy_mj is not None]
    for (before, low), (after, high) in pairwise(known):
        if before <= at_ns <= after:
            if high < low:  # the driver was loaded anew
                return None
            return low + (high - low) * ((at_ns - before) / (after - before) if after > before else 0.0)
    return None


def slowdown(reasons: Sequence[int | None]) -> tuple[str, ...]:
    """Why clocks were held down in any of the samples; "idle" only if all of them say so."""
    known = [bits for bits in reasons if bits is not None]
    found: dict[str, None] = {}
    for bits in known:
        found |= dict.fromkeys(name for bit, name in REASONS.items() if bits & bit)
        if bits & ~sum(REASONS):
            found[OTHER] = None
    return tuple(name for name in found if name != "idle" or all(bits & 0x1 for bits in known))


def _range(values: Sequence[int | None]) -> tuple[int, ...]:
    """Least, mean and most; empty where no sample has one."""
    known = [v for v in values if v is not None]
    return (min(known), round(sum(known) / len(known)), max(known)) if known else ()


def _loaded() -> Any:
    """The binding with its library at work; null where either is missing."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _shut_down(nvml: Any) -> None:
    with suppress(nvml.NVMLError):
        nvml.nvmlShutdown()


def _handles(nvml: Any, environment: Mapping[str, str]) -> dict[int, Any]:
    """NVML's handle of each GPU that CUDA_VISIBLE_DEVICES lets through, by NVML's number; none where NVML fails."""
    try:
        handles = {gpu: nvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in range(nvml.nvmlDeviceGetCount())}
        rows = [{"index": str(gpu), "uuid": _text(nvml.nvmlDeviceGetUUID(handle))} for gpu, handle in handles.items()]
    except nvml.NVMLError:
        return {}
    return {
        (gpu := int(row["index"])): handles[gpu] for row in visible_rows(rows, environment.get("CUDA_VISIBLE_DEVICES"))
    }


def _text(answer: str | bytes) -> str:
    """Bindings before 11.515 answer bytes."""
    return answer.decode("ascii", "replace") if isinstance(answer, bytes) else answer
