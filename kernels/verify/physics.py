"""How fast memory is, and so how long a kernel takes at least.

What a kernel has to read is in memory when a timed call begins, because more than the L2 cache holds was written just before. Its
last writes may still be in the cache when it ends: so up to one cache of bytes need not have passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...traces.calibration import Calibration, load_calibration
from ...traces.errors import InputError
from ...traces.hardware_key import calibration_name, hardware_key
from ...traces.places import calibration_folders

COPY_BYTES: Final = 1 << 30
COPIES: Final = 10

COPY_SHARE: Final = 0.85
"""Of a GPU's memory bandwidth, that a large copy reaches at least: 4.3 of 4.8 TB/s on an H200, 1.7 of 2.0 on an A100. Where only
a copy is known, the peak is taken as that much over this share, so that nothing honest is refused."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes per second that memory cannot exceed, where the figure is from, and the L2 cache in bytes."""

    bytes_per_s: float
    source: str
    cache_bytes: int

    def floor_ns(self, nbytes: int) -> float:
        """The least time in which `nbytes` pass; 0 where they may all stay in the cache."""
        return max(nbytes - self.cache_bytes, 0) / self.bytes_per_s * 1e9


def peak_of_device(project: Path) -> Peak:
    """The peak of the current CUDA device: clock times bus width as the driver or a calibration has it, else from a copy."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    cache = int(properties.L2_cache_size)
    clock, bus = (getattr(properties, name, None) for name in ("memory_clock_rate", "memory_bus_width"))
    if clock and bus:
        return Peak(2 * int(clock) * 1000 * int(bus) / 8, "memory clock times bus width, from the driver", cache)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return calibrated_peak(calibration(names, project), cache) or _copied_peak(torch, cache)


def calibrated_peak(found: Calibration | None, cache: int, device: int = 0) -> Peak | None:
    """The peak that a calibration tells of one of its devices; null where it tells none."""
    if found is None:
        return None
    for one in found.devices:
        if one.index == device and one.memory_bytes_per_s:
            return Peak(float(one.memory_bytes_per_s), f"calibration of {found.date}: clock times bus width", cache)
    for link in found.links:
        if link.kind == "d2d" and link.src_device == device:
            rate = 2 * link.best.median_bytes_per_s / COPY_SHARE  # a copy reads and writes
            return Peak(rate, f"calibration of {found.date}: a copy, over {COPY_SHARE:g}", cache)
    return None


def calibration(names: Sequence[str], project: Path) -> Calibration | None:
    """The calibration of a machine with these GPUs, or of one of them; null if nobody made one that can be read."""
    for key in dict.fromkeys((hardware_key(names, ""), *(hardware_key([name], "") for name in names))):
        for folder in calibration_folders(project):
            file = folder / calibration_name(key)
            if file.is_file():
                try:
                    return load_calibration(file)
                except InputError:
                    continue
    return None


def _copied_peak(torch: Any, cache: int) -> Peak:
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return Peak(2 * COPY_BYTES / best / COPY_SHARE, f"a copy measured just now, over {COPY_SHARE:g}", cache)
