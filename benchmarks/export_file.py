"""Writes recordings as an nsys 2025.3 SQLite export: event rows in nearly the order of their start, as nsys leaves them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aisp_trace.benchmarks.kernel_catalog import CALLS, DRIVER_CALLS, KERNELS
from aisp_trace.benchmarks.program import NO_EVENT, PTOP
from aisp_trace.benchmarks.timeline import LOADER, Mask, Recording, Times
from aisp_trace.benchmarks.truth import Truth

SCHEMA: Final = Path(__file__).with_name("schema_2025.sql")

HOST: Final = 1 << 48
"""The part of a global id that names the recorded machine."""

DOMAINS: Final = ("aisp", "NCCL")
CATEGORIES: Final = ("h2d", "compute")

ORPHAN_SHARE: Final = 0.001
"""Share of launch calls that were not recorded although their kernels were, as in a windowed recording."""

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

    def append(self, rec: Recording, offsets: Times) -> tuple[Times, Times, Times]:
        """All rows of `rec`, whose step k began at ``offsets[k]``; returns its kernels as (start, end, device)."""
        writer = _Chunk(self, rec, offsets)
        writer.calls()
        ran = writer.kernels()
        writer.copies_and_memsets()
        writer.synchronisation()
        writer.memory()
        writer.ranges()
        writer.overhead()
        return ran


class _Chunk:
    """One recording on its way into the file."""

    def __init__(self, file: ExportFile, rec: Recording, offsets: Times) -> None:
        self.file = file
        self.rec = rec
        self.offset = offsets[:, None, None]
        self.process = np.arange(rec.shape[1])[None, :, None]
        self.start = self._calls("start")
        self.name = self._calls("name")
        self.correlation = self._correlations()
        launches = np.zeros(rec.slots, bool)
        for burst in rec.kernels:
            if np.ndim(burst["slot"]) and not np.any(burst["node"]):
                launches[burst["slot"]] = True
        self.lost = launches & (file.rng.random(self.start.shape, dtype=np.float32) < ORPHAN_SHARE)

    def _calls(self, column: str) -> NDArray[Any]:
        shape = (*self.rec.shape, 1)
        parts = []
        for burst in self.rec.calls:
            values, n = _deep(burst[column]), _deep(burst["start"]).shape[-1]
            parts.append(np.broadcast_to(values, (*shape[:2], n)))
        return np.concatenate(parts, axis=-1)

    def _correlations(self) -> Times:
        """Ids in the order in which each process made its calls, with the jumps that unrecorded calls leave."""
        found = np.empty(self.start.shape, np.int64)
        when = self.start + self.offset
        for process in range(self.rec.shape[1]):
            mine = when[:, process, :]
            order = np.argsort(mine, axis=None, kind="stable")
            ids = self.file.correlation[process] + np.cumsum(self.file.rng.integers(1, 4, order.size))
            self.file.correlation[process] = ids[-1]
            flat = np.empty(order.size, np.int64)
            flat[order] = ids
            found[:, process, :] = flat.reshape(mine.shape)
        return found

    def flatten(self, burst: dict[str, Any], **columns: Any) -> list[NDArray[Any]]:
        """`columns` broadcast to the shape of `burst` and cut down to the rows that are present."""
        shape = np.broadcast_shapes(_deep(burst["start"]).shape, (*self.rec.shape, 1))
        present = np.broadcast_to(_deep(burst.get("present", True)), shape)
        return [np.broadcast_to(_deep(column), shape)[present] for column in columns.values()]

    def write(self, table: str, parts: list[list[NDArray[Any]]], *, sort: bool = True) -> None:
        if parts:
            self.file.insert(table, [np.concatenate(column) for column in zip(*parts, strict=True)], sort=sort)

    def place(self, burst: dict[str, Any]) -> dict[str, Any]:
        """The columns that every device row has, in the file's order."""
        return {
            "start": _deep(burst["start"]) + self.offset,
            "end": _deep(burst["end"]) + self.offset,
            "device": self.file.devices[self.process],
            "stream": burst["stream"],
            "correlation": self.correlation[..., burst["slot"]],
            "pid": HOST | (self.file.pids[self.process] << 24),
        }

    def calls(self) -> None:
        end, present = self._calls("end") + self.offset, self._calls("present") & ~self.lost
        name, result = self.name, self._calls("result")
        thread = self.file.thread_id(self.process, self._calls("thread"))
        self.file.truth.end_ns = max(self.file.truth.end_ns, int(end.max()))
        self.file.truth.failed_launches += int(((result != 0) & present).sum())
        kinds, names = self.file.call_classes[name], self.file.call_names[name]
        columns = (self.start + self.offset, end, kinds, thread, self.correlation, names, result)
        self.file.insert("CUPTI_ACTIVITY_KIND_RUNTIME", [column[present] for column in columns])

    def kernels(self) -> tuple[Times, Times, Times]:
        parts = []
        for burst in self.rec.kernels:
            lost = self.lost[..., burst["slot"]]
            stage = np.where(lost, "(orphan)", self._stage(burst))
            node = np.where(np.asarray(burst["node"]) == 0, UNSET, burst["node"])
            parts.append(self.flatten(burst, **self.place(burst), node=node, number=burst["number"], stage=stage))
        start, end, device, stream, correlation, pid, node, number, stage = (
            np.concatenate(c) for c in zip(*parts, strict=True)
        )
        self.file.truth.count_kernels(number, end - start, stage)
        grid_id = self.file.launched + 1 + np.argsort(np.argsort(start, kind="stable"), kind="stable")
        self.file.launched += len(start)
        described = list(self.file.kernel_columns[:, number])
        self.file.insert(
            "CUPTI_ACTIVITY_KIND_KERNEL", [start, end, device, stream, correlation, pid, node, grid_id, *described]
        )
        return start, end, device

    def _stage(self, burst: dict[str, Any]) -> Any:
        """Autograd's launches belong to main's range, unless the loader had one open as well when the call began."""
        if burst["stage"] != "step/backward":
            return burst["stage"]
        began = self.start[..., burst["slot"]]
        rival: Mask | bool = False
        for span in self.rec.ranges:
            if span["thread"] == LOADER:
                rival = rival | (
                    _deep(span["present"]) & (_deep(span["start"]) <= began) & (began < _deep(span["end"]))
                )
        return np.where(rival, "(ambiguous)", burst["stage"])

    def copies_and_memsets(self) -> None:
        parts = []
        peers = np.roll(np.unique(self.file.devices), -1)
        own = self.file.devices[self.process]
        for burst in self.rec.copies:
            peer = burst["kind"] == PTOP
            ends = (own, 1, peers[own % len(peers)], 1) if peer else (UNSET,) * 4
            kinds = {name: burst[name] for name in ("bytes", "kind", "src", "dst")}
            both = dict(zip(("from", "from_context", "to", "to_context"), ends, strict=True))
            parts.append(self.flatten(burst, **self.place(burst), **kinds, **both))
            key = (burst["kind"], burst["src"], burst["dst"])
            self.file.truth.copy_bytes[key] += int(parts[-1][6].sum())
        self.write("CUPTI_ACTIVITY_KIND_MEMCPY", parts)
        self.write(
            "CUPTI_ACTIVITY_KIND_MEMSET",
            [self.flatten(b, **self.place(b), bytes=b["bytes"]) for b in self.rec.memsets],
        )

    def synchronisation(self) -> None:
        """Waits and recorded events; eventSyncId tells the recording of an event that a wait is for."""
        own = 4_096 * (self.file.steps + np.arange(self.rec.shape[0]))[:, None, None]
        self.file.steps += self.rec.shape[0]
        waits = []
        for burst in self.rec.syncs:
            sync_id = burst["event"] if burst["event"] == NO_EVENT else burst["event"] + own
            columns = self.place(burst) | {"type": burst["type"], "event": burst["event"], "sync_id": sync_id}
            waits.append(self.flatten(burst, **columns))
        self.write("CUPTI_ACTIVITY_KIND_SYNCHRONIZATION", waits)
        records = []
        for burst in self.rec.events:
            columns = self.place(burst | {"end": burst["start"]}) | {"event": burst["event"]}
            records.append(self.flatten(burst, **columns, sync_id=burst["event"] + own)[2:])
        self.write("CUPTI_ACTIVITY_KIND_CUDA_EVENT", records, sort=False)

    def memory(self) -> None:
        parts = []
        for burst in self.rec.memory:
            pid = HOST | (self.file.pids[self.process] << 24)
            address = (0x7F00_0000_0000 + (burst["kind"] << 36)) + burst["bytes"]
            own = {"start": _deep(burst["start"]) + self.offset, "pid": pid, "device": self.file.devices[self.process]}
            what = {"context": 1, "address": address, "bytes": burst["bytes"], "kind": burst["kind"]}
            last = {"operation": int(burst["is_free"]), "correlation": self.correlation[..., burst["slot"]]}
            parts.append(self.flatten(burst, **own, **what, **last))
        self.write("CUDA_GPU_MEMORY_USAGE_EVENTS", parts)

    def ranges(self) -> None:
        parts = []
        for burst in self.rec.ranges:
            category = UNSET if burst["category"] is None else 1 + CATEGORIES.index(burst["category"])
            parts.append(
                self.flatten(
                    burst,
                    start=_deep(burst["start"]) + self.offset,
                    end=_deep(burst["end"]) + self.offset,
                    type=59,
                    category=category,
                    color=255 if burst["domain"] == "aisp" else UNSET,
                    thread=self.file.thread_id(self.process, burst["thread"]),
                    text=self.file.string(burst["name"]),
                    domain=self.file.domain_id(self.process, burst["domain"]),
                    payload=UNSET if burst["nbytes"] is None else burst["nbytes"],
                )
            )
        self.write("NVTX_EVENTS", parts)

    def overhead(self) -> None:
        parts = [
            self.flatten(
                burst,
                start=_deep(burst["start"]) + self.offset,
                end=_deep(burst["end"]) + self.offset,
                thread=self.file.thread_id(self.process, burst["thread"]),
                name=self.file.string("CUPTI Buffer flush"),
                result=0,
            )
            for burst in self.rec.overhead
        ]
        self.write("PROFILER_OVERHEAD", parts)


def _deep(values: Any) -> NDArray[Any]:
    """`values` with an axis for the rows of a burst: (steps, processes) becomes (steps, processes, 1)."""
    array = np.asarray(values)
    return array[..., None] if array.ndim == 2 else array
