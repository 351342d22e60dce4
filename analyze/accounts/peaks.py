"""What a copy could have reached: the peak of its link, and what copies of its size reached when the machine was calibrated.

    peak       of copies between pinned memory and a device, and between devices: the largest median of the calibration,
               over all sizes, of that direction and device; for h2d and d2h else the data sheet of the device
               of copies within a device: its HBM bandwidth, as the recorder, else the calibration, else the data sheet says
    share      bytes over the union of the copies' times, over the peak; a copy within a device reads and writes HBM and
               counts twice
    expected   bytes per second of calibrated copies of the same size: of a row's mean size, with the time of a copy
               interpolated between the two nearest calibrated sizes

Copies that touch pageable memory run at the speed of the host's staging copy: they have no peak and no share, but what
the calibration reached with pageable memory is still what to expect of them. Managed and unknown memory: nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ..result import SCHEMAS
from .bandwidth import PEAK_COLUMNS

if TYPE_CHECKING:  # few machines are calibrated
    from ...traces.calibration import Calibration, Link

PCIE: Final = {4: 31.508e9, 5: 63.015e9}
"""Bytes per second and direction of 16 lanes: 16 or 32 GT/s, one bit each, times 128/130 for the coding (PCI Express base
specifications 4.0 and 5.0). Data sheets round it up and add both directions: 64 and 128 GB/s."""


@dataclass(frozen=True, slots=True)
class DataSheet:
    """What NVIDIA's `document` says of a device: memory bytes per second, the PCI Express generation (16 lanes), and FLOPs.

    `flops_per_s` is the tensor cores' figure in 8 bits (FP8, on A100 INT8) with sparsity: twice what they do of dense products.
    """

    name: str
    pattern: str
    memory_bytes_per_s: float
    pcie: int
    flops_per_s: float
    document: str


DATA_SHEETS: Final = (
    DataSheet(
        "A100 40GB", r"A100.*40GB", 1555e9, 4, 1248e12, "NVIDIA A100 Tensor Core GPU Architecture, white paper, 2020"
    ),
    DataSheet(
        "A100 80GB PCIe",
        r"A100 80GB PCIe",
        1935e9,
        4,
        1248e12,
        "NVIDIA A100 Tensor Core GPU, data sheet 1758950 r4, 2021",
    ),
    DataSheet(
        "A100 80GB SXM",
        r"A100-SXM.*80GB",
        2039e9,
        4,
        1248e12,
        "NVIDIA A100 Tensor Core GPU, data sheet 1758950 r4, 2021",
    ),
    DataSheet("H100 SXM", r"H100 80GB HBM3", 3350e9, 5, 3958e12, "NVIDIA H100 Tensor Core GPU, data sheet"),
    DataSheet("H200", r"\bH200\b", 4800e9, 5, 3958e12, "NVIDIA H200 Tensor Core GPU, data sheet"),
    DataSheet("L4", r"\bL4\b", 300e9, 4, 485e12, "NVIDIA L4 Tensor Core GPU, data sheet"),
    DataSheet("L40S", r"\bL40S\b", 864e9, 4, 1466e12, "NVIDIA L40S, data sheet"),
)
"""Devices by a pattern in their names. What is not here has no peak of this source. V100 is not: three boards (two memories,
some hosts on NVLink instead of PCI Express) share the name."""

UNIFIED: Final = r"GH200|GB200|GB10|Orin|Thor"
"""Devices that are not on PCI Express: no data sheet's link is theirs."""

HBM_MOVES: Final = 2
"""A copy within a device reads each byte and writes it."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """What calibration says about the hardware a trace was recorded on."""

    calibration: Calibration

    @property
    def source(self) -> str:
        """``calibration 2026-11-22``."""
        return f"calibration {self.calibration.date}"

    def link(self, kind: str, memory: str, src: tuple[int, str] | None, dst: tuple[int, str] | None) -> Link | None:
        """The calibrated link between two ends, each (device index, name), null for the host.

        A trace may number devices otherwise than the calibration did: then any link between devices of the same names.
        """
        names = {device.index: device.name for device in self.calibration.devices}
        wanted = [None if end is None else end[1] for end in (src, dst)]
        same = [
            link
            for link in self.calibration.links
            if (link.kind, link.memory) == (kind, memory)
            and [None if i is None else names.get(i) for i in (link.src_device, link.dst_device)] == wanted
        ]
        exact = (None if src is None else src[0], None if dst is None else dst[0])
        return next((link for link in same if (link.src_device, link.dst_device) == exact), same[0] if same else None)


def expected_rate(link: Link, nbytes: float) -> float:
    """Bytes per second of a copy of `nbytes` on `link`: its time interpolated linearly between the calibrated sizes.

    A copy's time is nearly a constant plus its size over the link's rate, hence linear. Below the smallest calibrated
    size a copy takes as long as the smallest; above the largest it keeps the largest one's rate.
    """
    sizes = np.array([rate.nbytes for rate in link.rates], float)
    seconds = sizes / np.array([rate.median_bytes_per_s for rate in link.rates])
    if nbytes >= sizes[-1]:
        return link.rates[-1].median_bytes_per_s
    return float(nbytes / np.interp(nbytes, sizes, seconds))


def with_peaks(bandwidth: pl.DataFrame, devices: pl.DataFrame, peaks: Peaks | None) -> pl.DataFrame:
    """Table ``bandwidth`` with its columns about peaks; `devices` is the trace's table of devices.

    The columns are `PEAK_COLUMNS`, null where nothing is known.
    """
    known = {row["device"]: row for row in devices.iter_rows(named=True)}
    rows = []
    for row in bandwidth.iter_rows(named=True):
        link = None if peaks is None else _link(peaks, row, known)
        peak, source = _peak(row, known, peaks, link)
        moved = row["nbytes"] * (HBM_MOVES if row["kind"] == "d2d" else 1)
        share = moved / row["union_ns"] * 1e9 / peak if peak is not None and row["union_ns"] > 0 else None
        mean = row["nbytes"] / row["ops"]
        expected = None if link is None or mean <= 0 else expected_rate(link, mean)
        rows.append((peak, source, share, expected))
    figures = pl.DataFrame(rows, schema={c: SCHEMAS["bandwidth"][c] for c in PEAK_COLUMNS}, orient="row")
    return bandwidth.hstack(figures)


def host_memory(row: Mapping[str, Any]) -> str | None:
    """Of a copy's row: the kind of its memory on the host, ``device`` where both ends are devices; null if unknown."""
    if row["kind"] in ("h2d", "d2h"):
        return row["src_kind" if row["kind"] == "h2d" else "dst_kind"]  # type: ignore[no-any-return]
    return (
        "device" if row["kind"] in ("d2d", "p2p") and {row["src_kind"], row["dst_kind"]} <= {"device", None} else None
    )


def _link(peaks: Peaks, row: Mapping[str, Any], known: Mapping[int, Mapping[str, Any]]) -> Link | None:
    memory = host_memory(row)
    if memory not in ("pinned", "pageable", "device"):
        return None
    here = _end(row["device"], known)
    if row["kind"] == "h2d":
        return peaks.link("h2d", memory, None, here)
    if row["kind"] == "d2h":
        return peaks.link("d2h", memory, here, None)
    if row["kind"] == "d2d":
        return peaks.link("d2d", memory, here, here)
    if row["src_device"] is None or row["dst_device"] is None:
        return None
    return peaks.link("p2p", memory, _end(row["src_device"], known), _end(row["dst_device"], known))


def _end(device: int, known: Mapping[int, Mapping[str, Any]]) -> tuple[int, str]:
    return device, (known[device]["name"] or "") if device in known else ""


def _peak(
    row: Mapping[str, Any], known: Mapping[int, Mapping[str, Any]], peaks: Peaks | None, link: Link | None
) -> tuple[float | None, str | None]:
    """(bytes per second, where it comes from), both null where no peak is known."""
    memory = host_memory(row)
    device = known.get(row["device"], {})
    if device.get("type") == "host" or memory not in ("pinned", "device"):
        return None, None
    if row["kind"] == "d2d":
        return memory_peak(device, peaks)
    if link is not None and peaks is not None:
        return link.best.median_bytes_per_s, peaks.source
    sheet = data_sheet(device.get("name"))
    if sheet is None or row["kind"] == "p2p" or re.search(UNIFIED, device["name"]):
        return None, None
    return PCIE[sheet.pcie], f"datasheet {sheet.name}"


def memory_peak(device: Mapping[str, Any], peaks: Peaks | None) -> tuple[float | None, str | None]:
    """(bytes per second of a device's memory, where that is from), by its row of the table of devices; nulls where unknown."""
    if device.get("memory_bytes_per_s"):
        return float(device["memory_bytes_per_s"]), "device row"
    for found in peaks.calibration.devices if peaks is not None else ():
        if found.name == device.get("name") and found.memory_bytes_per_s is not None and peaks is not None:
            return float(found.memory_bytes_per_s), peaks.source
    sheet = data_sheet(device.get("name"))
    return (None, None) if sheet is None else (sheet.memory_bytes_per_s, f"datasheet {sheet.name}")


def data_sheet(name: str | None) -> DataSheet | None:
    """The data sheet of the device called `name`; null where none is known."""
    return next((sheet for sheet in DATA_SHEETS if name and re.search(sheet.pattern, name)), None)
