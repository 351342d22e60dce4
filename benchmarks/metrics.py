"""Hardware counters sampled at a fixed frequency, consistent with the kernels that ran."""

from __future__ import annotations

from typing import Final

import numpy as np

from aisp_trace.benchmarks.export_file import HOST, ExportFile
from aisp_trace.benchmarks.timeline import Times

METRICS: Final = {
    "GPC Clock Frequency [MHz]": 0.0,
    "SYS Clock Frequency [MHz]": 0.0,
    "GR Active [Throughput %]": 100.0,
    "SMs Active [Throughput %]": 92.0,
    "SM Issue [Throughput %]": 30.0,
    "Tensor Active [Throughput %]": 38.0,
    "Compute Warps in Flight [Throughput %]": 24.0,
    "DRAM Read Bandwidth [Throughput %]": 35.0,
    "DRAM Write Bandwidth [Throughput %]": 18.0,
    "PCIe RX Throughput [Throughput %]": 3.0,
    "PCIe TX Throughput [Throughput %]": 2.0,
}
"""Metric name -> its percentage while kernels run; the clocks, in Hz, do not depend on them."""

CLOCK_HZ: Final = 1_980_000_000


class Sampler:
    """Samples every device `frequency_hz` times a second; the kernels before `until` must be known at each call."""

    def __init__(self, file: ExportFile, rng: np.random.Generator, frequency_hz: int) -> None:
        self.file = file
        self.rng = rng
        self.period = 1_000_000_000 // frequency_hz
        self.next = 0
        self.devices = sorted(set(file.devices.tolist()))
        rows = [(self.type_id(d), self.type_id(d), "", n, name) for d in self.devices for n, name in enumerate(METRICS)]
        file.database.executemany("INSERT INTO TARGET_INFO_GPU_METRICS VALUES (?, ?, ?, ?, ?)", rows)

    @staticmethod
    def type_id(device: int) -> int:
        """As in real exports: the machine, the source above bit 32, the device in the low byte."""
        return HOST | 1 << 32 | device

    def sample(self, start: Times, end: Times, device: Times, until: int) -> None:
        """Write the samples of the intervals that end by `until`; a sample's time is the start of its interval."""
        edges = np.arange(self.next, until + 1, self.period)
        if len(edges) < 2:
            return
        self.next = int(edges[-1])
        for one in self.devices:
            busy = _busy(start[device == one], end[device == one], edges) / self.period
            level = np.array(list(METRICS.values()))[None, :] * np.minimum(busy, 1.0)[:, None]
            value = (level * self.rng.uniform(0.9, 1.1, level.shape)).clip(0, 100).astype(np.int64)
            value[:, :2] = CLOCK_HZ + self.rng.integers(-500_000, 500_000, (len(busy), 2))
            time = np.repeat(edges[:-1], len(METRICS))
            kind = np.full(len(time), self.type_id(one))
            metric = np.tile(np.arange(len(METRICS)), len(busy))
            self.file.insert("GPU_METRICS", [time, time, kind, metric, value.ravel()])


def _busy(start: Times, end: Times, edges: Times) -> Times:
    """Nanoseconds of kernels between neighbouring `edges`; kernels that overlap count each."""
    if not len(start):
        return np.zeros(len(edges) - 1, np.int64)
    when = np.concatenate([start, end])
    order = np.argsort(when, kind="stable")
    running = np.cumsum(np.repeat([1, -1], len(start))[order])
    total = np.concatenate([[0], np.cumsum(running[:-1] * np.diff(when[order]))])
    busy: Times = np.diff(np.interp(edges, when[order], total)).astype(np.int64)
    return busy
