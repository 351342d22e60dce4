"""From a recording to the rows of an export: absolute times, correlation ids, lost calls, and what is true of them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aisp_trace.benchmarks.export_file import CATEGORIES, HOST, UNSET, ExportFile
from aisp_trace.benchmarks.program import NO_EVENT, PTOP
from aisp_trace.benchmarks.timeline import LOADER, Mask, Recording, Times

ORPHAN_SHARE: Final = 0.001
"""Share of launch calls that were not recorded although their kernels were, as in a windowed recording."""


def append(file: ExportFile, rec: Recording, offsets: Times) -> tuple[Times, Times, Times]:
    """Write all rows of `rec`, whose step k began at ``offsets[k]``; returns its kernels as (start, end, device)."""
    chunk = _Chunk(file, rec, offsets)
    chunk.calls()
    ran = chunk.kernels()
    chunk.copies_and_memsets()
    chunk.synchronisation()
    chunk.memory()
    chunk.ranges()
    chunk.overhead()
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
