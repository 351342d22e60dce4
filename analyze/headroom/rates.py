"""What a change needs to know of the machine: how fast links and memory are, what a launch and a graph's node cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from ..accounts.peaks import PCIE, UNIFIED, Peaks, data_sheet, memory_peak

if TYPE_CHECKING:
    from ...traces.calibration import Link

LINK_SHARE: Final = 0.88
"""Of PCI Express's rate, what copies between pinned memory and a device reach: 55.4 of 63.0 GB/s on an H200
(``expectations/calibration_h200.json``)."""

DUPLEX: Final = {"h2d": 0.946, "d2h": 0.917}
"""The part of its rate that a copy keeps while another runs the other way: 52.0 of 55.0 GB/s in, 50.6 of 55.2 out (medians of
293 and 278 copies of 16 MiB, the optimized variant of ``traces/samples/h200_pipeline_sequential``). `capture --calibrate`
measures it."""

NODE_NS: Final = 450
"""From one operation of a CUDA graph to the next one of its stream, at least: seen on H100 and H200. A calibration's graph of
equal kernels may have less (256 on an H200), which real graphs there did not reach."""

CALL_NS: Final = 5_000
"""What a call takes that only enqueues, a copy or the launch of a graph, where it was not calibrated: 4 to 6 us beside H200s."""

NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per ns: `link` of copies by kind, ``h2d`` and ``d2h``, where it is known, `memory` of a device, null if unknown.

    `measured`: the link's are from a calibration of this hardware; `source` says in words where they are from. `duplex` is the
    part of its rate that each kind keeps while copies run the other way. `call_ns` is what a call takes that only enqueues,
    and `node_ns` the time between two operations of a CUDA graph.
    """

    link: Mapping[str, float] = field(default_factory=dict)
    memory: float | None = None
    measured: bool = False
    source: str = ""
    duplex: Mapping[str, float] = field(default_factory=dict)
    call_ns: int = CALL_NS
    node_ns: int = NODE_NS


def rates_of(devices: pl.DataFrame, peaks: Peaks | None) -> Rates:
    """The rates of the first GPU of a trace's table of devices: as calibrated, else by its data sheet."""
    gpu = next(devices.filter(pl.col("type") == "gpu").sort("device").iter_rows(named=True), None)
    if gpu is None:
        return Rates()
    peak, _ = memory_peak(gpu, peaks)
    memory = None if peak is None else peak / NS
    if peaks is not None:
        link = _pinned(peaks.calibration.links)
        if link:
            both = _pinned(peaks.calibration.duplex)
            duplex = {kind: min(both[kind] / link[kind], 1.0) for kind in both if kind in link} or DUPLEX
            costs = next(iter(peaks.calibration.costs), None)
            call_ns = costs.launch_ns if costs is not None else CALL_NS
            node_ns = max(NODE_NS, costs.node_ns or 0) if costs is not None else NODE_NS
            return Rates(link, memory, True, peaks.source, duplex, call_ns, node_ns)
    sheet = data_sheet(gpu["name"])
    if sheet is None or re.search(UNIFIED, gpu["name"]):
        return Rates({}, memory)
    rate = LINK_SHARE * PCIE[sheet.pcie] / NS
    return Rates({"h2d": rate, "d2h": rate}, memory, False, f"datasheet {sheet.name}", DUPLEX)


def _pinned(links: Sequence[Link]) -> Mapping[str, float]:
    """Bytes per ns of copies between the host's pinned memory and a device, by kind."""
    pinned = (one for one in links if one.memory == "pinned" and one.kind in ("h2d", "d2h"))
    return {one.kind: one.best.median_bytes_per_s / NS for one in pinned}
