"""An nsys 2025.3 SQLite export being written: its tables, strings and ids, and rows in nearly the order of their start."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aisp_trace.benchmarks.kernel_catalog import CALLS, DRIVER_CALLS, KERNELS
from aisp_trace.benchmarks.truth import Truth

SCHEMA: Final = Path(__file__).with_name("schema_2025.sql")

HOST: Final = 1 << 48
"""The part of a global id that names the recorded machine."""

DOMAINS: Final = ("aisp", "NCCL")
CATEGORIES: Final = ("h2d", "compute")

SWAPS_PER_ROWS: Final = 200_000
"""About one pair of neighbouring rows in so many is out of order."""

UNSET: Final = -1
"""Stands for NULL in integer columns on their way into the file."""

TABLES: Final = {
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start end eventClass globalTid correlationId nameId returnValue",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start end deviceId streamId correlationId globalPid graphNodeId gridId demangledName "
    "shortName mangledName registersPerThread gridX gridY gridZ blockX blockY blockZ dynamicSharedMemory",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start end deviceId streamId correlationId globalPid bytes copyKind srcKind dstKind "
    "srcDeviceId srcContextId dstDeviceId dstContextId",
    "CUPTI_ACTIVITY_KIND_MEMSET": "start end deviceId streamId correlationId globalPid bytes",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": "start end deviceId streamId correlationId globalPid syncType eventId eventSyncId",
    "CUPTI_ACTIVITY_KIND_CUDA_EVENT": "deviceId streamId correlationId globalPid eventId eventSyncId",
    "CUDA_GPU_MEMORY_USAGE_EVENTS": "start globalPid deviceId contextId address bytes memKind memoryOperationType correlationId",
    "NVTX_EVENTS": "start end eventType category color globalTid textId domainId int64Value",
    "PROFILER_OVERHEAD": "start end globalTid nameId returnValue",
    "CUDA_GRAPH_NODE_EVENTS": "start end eventClass globalTid nameId graphNodeId",
    "GPU_METRICS": "rawTimestamp timestamp typeId metricId value",
}  # fmt: skip
"""The columns that differ from row to row, in the order in which rows are given."""

CONSTANTS: Final = {
    "CUPTI_ACTIVITY_KIND_KERNEL": "contextId=1 greenContextId=0 launchType=1 cacheConfig=1 staticSharedMemory=0 "
    "localMemoryPerThread=0 localMemoryTotal=155713536 sharedMemoryExecuted=233472 sharedMemoryLimitConfig=1",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "contextId=1 greenContextId=0 copyCount=1",
    "CUPTI_ACTIVITY_KIND_MEMSET": "contextId=1 greenContextId=0 value=0 memKind=2",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": "contextId=1",
    "CUPTI_ACTIVITY_KIND_CUDA_EVENT": "contextId=1 greenContextId=0",
    "CUDA_GPU_MEMORY_USAGE_EVENTS": "pc=0",
}
"""The columns that are the same in all rows of a table. Every other column is NULL."""

NULLABLE: Final = {
    "graphNodeId",
    "srcDeviceId",
    "srcContextId",
    "dstDeviceId",
    "dstContextId",
    "category",
    "color",
    "int64Value",
} | {"end"}
"""Columns in which `UNSET` means NULL."""


class ExportFile:
    """An export being written for processes with the given ids, each on its device. Use it as a context manager.

    Everything goes into one transaction without a journal: a file whose writing was interrupted is not usable.
    """

    def __init__(
        self, path: Path, rng: np.random.Generator, pids: Sequence[int], devices: Sequence[int], truth: Truth
    ) -> None:
        self.rng = rng
        self.truth = truth
        self.pids = np.array(pids, np.int64)
        self.devices = np.array(devices, np.int64)
        self.correlation = self.rng.integers(100, 160, len(pids))
        self.strings: dict[str, int] = {}
        self.launched = 0
        self.steps = 0
        self.database = sqlite3.connect(path, isolation_level=None)
        for pragma in ("page_size = 4096", "journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self.database.execute(f"PRAGMA {pragma}")
        self.database.executescript(SCHEMA.read_text(encoding="utf-8"))
        self.database.execute("BEGIN")
        self.call_names = np.array([self.string(name) for name in CALLS])
        self.call_classes = np.array([int(name in DRIVER_CALLS) for name in CALLS])
        described = [
            (*(self.string(n) for n in (k.demangled, k.short, k.mangled)), k.registers, *k.grid, *k.block)
            for k in KERNELS
        ]
        shared = [k.dynamic_shared_bytes for k in KERNELS]
        self.kernel_columns = np.vstack([np.array(described).T, shared])

    def __enter__(self) -> ExportFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None:
            self.database.executemany("INSERT INTO StringIds VALUES (?, ?)", [(i, s) for s, i in self.strings.items()])
            self.truth.rows["StringIds"] = len(self.strings)
            self.database.execute("COMMIT")
        self.database.close()

    def string(self, value: str) -> int:
        """The id of `value` in StringIds."""
        return self.strings.setdefault(value, len(self.strings))

    def thread_id(self, process: Any, number: Any) -> Any:
        """globalTid of a thread (`timeline.MAIN` ...) of a process given by position; both may be arrays."""
        pid = self.pids[process]
        return HOST | (pid << 24) | (pid + np.array([0, 37, 61])[number])

    def domain_id(self, process: Any, domain: str) -> Any:
        """NVTX numbers the domains of each process as they are made: here every other process made them in reverse."""
        return 1 + (DOMAINS.index(domain) + np.asarray(process)) % len(DOMAINS)

    def insert(self, table: str, columns: Sequence[NDArray[np.int64]], *, sort: bool = True) -> None:
        """Rows given as columns in the order of `TABLES`, put in nearly the order of the first column."""
        count = len(columns[0])
        if sort and count:
            order = np.argsort(columns[0], kind="stable")
            swaps = self.rng.poisson(count / SWAPS_PER_ROWS) if count > 1 else 0
            for at in self.rng.integers(0, count - 1, swaps).tolist() if swaps else ():
                order[[at, at + 1]] = order[[at + 1, at]]
            columns = [column[order] for column in columns]
            self.truth.inversions[table] += int((np.diff(columns[0]) < 0).sum())
        self.rows(table, zip(*(column.tolist() for column in columns), strict=True))
        self.truth.rows[table] += count

    def rows(self, table: str, rows: Any) -> None:
        names = TABLES[table].split()
        fixed = dict(pair.split("=") for pair in CONSTANTS.get(table, "").split())
        values = [f"NULLIF(?, {UNSET})" if name in NULLABLE else "?" for name in names] + list(fixed.values())
        self.database.executemany(
            f"INSERT INTO {table} ({', '.join([*names, *fixed])}) VALUES ({', '.join(values)})", rows
        )
