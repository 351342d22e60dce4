"""The least time of a case: required bytes at the rate of a copy, or required FLOPs at the peak, whichever takes longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...traces.calibration import Calibration
from ..task import Shape, Task
from ..verify.physics import calibration
from ..verify.plan import shape_text
from .result import FLOPS, MEMORY, Limit

LANES: Final = {(7, 0): 64, (7, 5): 64, (8, 0): 64}
"""Float32 additions or products of a multiprocessor in one clock, by compute capability (CUDA C++ Programming Guide, throughput
of arithmetic instructions); 128 in all later ones."""

LATER_LANES: Final = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes per second of a large copy, read and written, and float32 FLOPs per second outside tensor cores."""

    bytes_per_s: float
    bytes_source: str
    flops_per_s: float | None
    flops_source: str

    def of(self, task: Task, shape: Shape, dtype: str) -> Limit:
        """The limit of one case. Where no peak of FLOPs is known it is memory's."""
        nbytes, flops = task.bytes(shape, dtype), task.flops(shape, dtype)
        by_memory = nbytes / self.bytes_per_s * 1e9
        by_flops = flops / self.flops_per_s * 1e9 if self.flops_per_s else 0.0
        bound = FLOPS if by_flops > by_memory else MEMORY
        return Limit(shape_text(shape), nbytes, flops, bound, max(by_memory, by_flops))


def limits_of(facts: Mapping[str, Any], project: Path) -> Limits:
    """From what a child says of its device (`child.Timer.device`), and a calibration of such a machine if there is one."""
    names = [str(name) for name in facts["names"]]
    rate, source = calibrated_copy(calibration(names, project)) if names else None, ""
    if rate is not None:
        bytes_per_s, source = rate
    else:
        bytes_per_s, source = float(facts["copy_bytes_per_s"]), "a copy within the device, measured just now"
    return Limits(bytes_per_s, source, *_flops(facts))


def calibrated_copy(found: Calibration | None, device: int = 0) -> tuple[float, str] | None:
    """(bytes per second read and written, source) of a copy within `device`; null where the calibration has none."""
    for link in () if found is None else found.links:
        if link.kind == "d2d" and link.src_device == device:
            return 2 * link.best.median_bytes_per_s, f"calibration of {found.date}: a copy within the device"  # type: ignore[union-attr]
    return None


def _flops(facts: Mapping[str, Any]) -> tuple[float | None, str]:
    clock, capability = facts.get("clock_khz"), facts.get("capability")
    if not clock or not capability:
        return None, "unknown: torch does not tell the clock"
    lanes = LANES.get(_pair(capability), LATER_LANES)
    peak = 2 * int(facts["multiprocessors"]) * lanes * int(clock) * 1000
    return float(
        peak
    ), f"{facts['multiprocessors']} multiprocessors, {lanes} fused float32 operations a clock, {clock} kHz"


def _pair(capability: Sequence[int]) -> tuple[int, int]:
    return int(capability[0]), int(capability[1])
