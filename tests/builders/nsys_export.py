"""Small nsys exports with the true schema, row by row.

    export = NsysExport(schema="3.20.3")
    export.kernel(start=10, end=20, name="gemm", correlation=1)
    export.write(tmp_path / "t.sqlite")

A table exists only once it has a row, as in nsys. Columns not given are null.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

_WORK: Final = (
    "start INTEGER NOT NULL, end INTEGER, deviceId INTEGER, contextId INTEGER, greenContextId INTEGER, "
    "streamId INTEGER, correlationId INTEGER, globalPid INTEGER"
)
_CALL: Final = "start INTEGER NOT NULL, end INTEGER, eventClass INTEGER, globalTid INTEGER"

SCHEMA: Final[dict[str, str]] = {
    "StringIds": "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL",
    "ANALYSIS_FILE": "id INTEGER NOT NULL PRIMARY KEY, filename TEXT, contentId INTEGER, globalPid INTEGER NOT NULL",
    "ProcessStreams": "globalPid INTEGER NOT NULL, filenameId INTEGER NOT NULL, contentId INTEGER NOT NULL",
    "TARGET_INFO_SYSTEM_ENV": "globalVid INTEGER, devStateName TEXT, name TEXT, nameEnum INTEGER, value TEXT",
    "TARGET_INFO_SESSION_START_TIME": "utcEpochNs INTEGER, utcTime TEXT, localTime TEXT",
    "CUPTI_ACTIVITY_KIND_KERNEL": f"{_WORK}, demangledName INTEGER NOT NULL, shortName INTEGER, mangledName INTEGER, "
    "launchType INTEGER, registersPerThread INTEGER, gridX INTEGER, gridY INTEGER, gridZ INTEGER, blockX INTEGER, "
    "blockY INTEGER, blockZ INTEGER, graphNodeId INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMCPY": f"{_WORK}, bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL, "
    "deprecatedSrcId INTEGER, srcKind INTEGER, dstKind INTEGER, srcDeviceId INTEGER, srcContextId INTEGER, "
    "dstDeviceId INTEGER, dstContextId INTEGER, migrationCause INTEGER, graphNodeId INTEGER, virtualAddress INTEGER, "
    "copyCount INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMSET": f"{_WORK}, value INTEGER, bytes INTEGER, graphNodeId INTEGER, memKind INTEGER",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": f"{_WORK}, graphId INTEGER, graphExecId INTEGER",
    "CUPTI_ACTIVITY_KIND_RUNTIME": f"{_CALL}, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER, "
    "callchainId INTEGER",
    "CUPTI_ACTIVITY_KIND_DRIVER": f"{_CALL}, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": f"{_WORK}, deprecatedSyncType INTEGER, syncType INTEGER, eventId INTEGER, "
    "eventSyncId INTEGER",
    "CUPTI_ACTIVITY_KIND_CUDA_EVENT": "deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, greenContextId INTEGER, "
    "streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, eventId INTEGER NOT NULL, eventSyncId INTEGER",
    "CUPTI_ACTIVITY_KIND_OVERHEAD": f"{_CALL}, correlationId INTEGER, nameId INTEGER, overheadType INTEGER NOT NULL",
    "PROFILER_OVERHEAD": "start INTEGER NOT NULL, end INTEGER NOT NULL, globalTid INTEGER, nameId INTEGER NOT NULL, "
    "returnValue INTEGER NOT NULL",
    "OSRT_API": f"{_CALL}, nameId INTEGER NOT NULL, returnValue INTEGER, nestingLevel INTEGER, callchainId INTEGER",
    "OSRT_CALLCHAINS": "id INTEGER NOT NULL, symbol INTEGER NOT NULL, module INTEGER NOT NULL, stackDepth INTEGER",
    # As nsys 2022.4 declares them; the key of the second is what makes a search by id quick.
    "COMPOSITE_EVENTS": "id INTEGER NOT NULL PRIMARY KEY, start INTEGER NOT NULL, cpu INTEGER, threadState INTEGER, "
    "globalTid INTEGER, cpuCycles INTEGER NOT NULL",
    "SAMPLING_CALLCHAINS": "id INTEGER NOT NULL, symbol INTEGER NOT NULL, module INTEGER NOT NULL, kernelMode INTEGER, "
    "thumbCode INTEGER, unresolved INTEGER, specialEntry INTEGER, originalIP INTEGER, unwindMethod INTEGER, "
    "stackDepth INTEGER NOT NULL, PRIMARY KEY (id, stackDepth)",
    "CUDA_GRAPH_NODE_EVENTS": "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER, "
    "nameId INTEGER NOT NULL, graphNodeId INTEGER NOT NULL, originalGraphNodeId INTEGER",
    "CUDA_GPU_MEMORY_USAGE_EVENTS": "start INTEGER, globalPid INTEGER, deviceId INTEGER, contextId INTEGER, "
    "address INTEGER, pc INTEGER, bytes INTEGER, memKind INTEGER, memoryOperationType INTEGER, name TEXT, "
    "correlationId INTEGER, streamId INTEGER",
    "NVTX_EVENTS": "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, "
    "category INTEGER, color INTEGER, text TEXT, globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, "
    "domainId INTEGER, uint64Value INTEGER, int64Value INTEGER, doubleValue REAL, uint32Value INTEGER, "
    "int32Value INTEGER, floatValue REAL, jsonTextId INTEGER, jsonText TEXT, binaryData TEXT",
    "GPU_METRICS": "rawTimestamp INTEGER, timestamp INTEGER, typeId INTEGER, metricId INTEGER, value INTEGER",
    "TARGET_INFO_GPU_METRICS": "typeId INTEGER, sourceId INTEGER, typeName TEXT, metricId INTEGER, metricName TEXT",
    "TARGET_INFO_GPU": "vmId INTEGER, id INTEGER, name TEXT, busLocation TEXT, totalMemory INTEGER, "
    "memoryBandwidth INTEGER, smCount INTEGER, uuid TEXT, chipName TEXT, ctxswDevPath TEXT, ctrlDevPath TEXT, "
    "computeMajor INTEGER, computeMinor INTEGER",
    "TARGET_INFO_CUDA_DEVICE": "gpuId INTEGER, cudaId INTEGER NOT NULL, pid INTEGER NOT NULL",
    "DIAGNOSTIC_EVENT": "timestamp INTEGER NOT NULL, timestampType INTEGER, source INTEGER, severity INTEGER, "
    "text TEXT NOT NULL, globalPid INTEGER",
    "PROCESSES": "globalPid INTEGER, pid INTEGER, name TEXT",
    "ThreadNames": "nameId INTEGER NOT NULL, priority INTEGER, globalTid INTEGER",
    "META_DATA_CAPTURE": "name TEXT NOT NULL, value TEXT",
    "META_DATA_EXPORT": "name TEXT NOT NULL, value TEXT",
    "EXPORT_META_DATA": "name TEXT NOT NULL, value TEXT",
    "ENUM_CUDA_MEMCPY_OPER": "id INTEGER, name TEXT, label TEXT",
    "ENUM_CUDA_MEM_KIND": "id INTEGER, name TEXT, label TEXT",
    "ENUM_CUDA_DEV_MEM_EVENT_OPER": "id INTEGER, name TEXT, label TEXT",
    "ENUM_NSYS_EVENT_TYPE": "id INTEGER, name TEXT, label TEXT",
    "ENUM_DIAGNOSTIC_SEVERITY_LEVEL": "id INTEGER, name TEXT, label TEXT",
    "ENUM_CUPTI_OVERHEAD_TYPE": "id INTEGER, name TEXT, label TEXT",
    "ENUM_CUDA_KRENEL_LAUNCH_TYPE": "id INTEGER, name TEXT, label TEXT",
}


def gid(pid: int, tid: int = 0, host: int = 1) -> int:
    """A serialised global id. `host` is above bit 48."""
    return (host << 48) | (pid << 24) | tid


class NsysExport:
    """Rows of an export in the making."""

    def __init__(self, schema: str | None = "3.20.3") -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {"StringIds": []}
        self.strings: dict[str, int] = {}
        self.columns: dict[str, str] = dict(SCHEMA)
        if schema is not None:
            self.add("META_DATA_EXPORT", name="EXPORT_SCHEMA_VERSION", value=schema)

    def add(self, table: str, **values: Any) -> NsysExport:
        """One row."""
        self.rows.setdefault(table, []).append(values)
        return self

    def string(self, text: Any) -> int:
        """The StringIds id of `text`."""
        if text not in self.strings:
            self.strings[text] = len(self.strings) + 1
            self.add("StringIds", id=self.strings[text], value=text)
        return self.strings[text]

    def kernel(
        self, start: Any, end: Any, name: str = "gemm", pid: int = 100, host: int = 1, **more: Any
    ) -> NsysExport:
        """A kernel on device 0, stream 7."""
        values = {"deviceId": 0, "contextId": 1, "streamId": 7, "correlationId": 1, "globalPid": gid(pid, 0, host)}
        values |= {"demangledName": self.string(name), "shortName": self.string(name), **more}
        return self.add("CUPTI_ACTIVITY_KIND_KERNEL", start=start, end=end, **values)

    def copy(self, start: Any, end: Any, kind: int = 1, nbytes: int = 64, pid: int = 100, **more: Any) -> NsysExport:
        """A copy on device 0, stream 7."""
        values = {"deviceId": 0, "contextId": 1, "streamId": 7, "correlationId": 1, "globalPid": gid(pid), **more}
        return self.add("CUPTI_ACTIVITY_KIND_MEMCPY", start=start, end=end, copyKind=kind, bytes=nbytes, **values)

    def call(
        self, start: Any, end: Any, name: str, pid: int = 100, tid: int = 100, host: int = 1, **more: Any
    ) -> NsysExport:
        """A runtime call."""
        values = {"globalTid": gid(pid, tid, host), "correlationId": 1, "returnValue": 0, "eventClass": 0, **more}
        return self.add("CUPTI_ACTIVITY_KIND_RUNTIME", start=start, end=end, nameId=self.string(name), **values)

    def range(self, start: Any, end: Any, name: str, pid: int = 100, tid: int = 100, **more: Any) -> NsysExport:
        """A push/pop range of the default domain with a registered name."""
        values = {"eventType": 59, "globalTid": gid(pid, tid), "domainId": 0, "textId": self.string(name), **more}
        return self.add("NVTX_EVENTS", start=start, end=end, **values)

    def node(self, at: int, node: int, original: int | None = None, pid: int = 100, tid: int = 100) -> NsysExport:
        """The creation of a graph's node (its graph is the upper half of the id), or that it is a clone of `original`."""
        values = {"eventClass": 77, "globalTid": gid(pid, tid), "nameId": self.string("Graph Node Creation")}
        return self.add(
            "CUDA_GRAPH_NODE_EVENTS", start=at, end=at, graphNodeId=node, originalGraphNodeId=original, **values
        )

    def sample(self, start: int, *frames: str | None, pid: int = 100, tid: int = 100, host: int = 1) -> NsysExport:
        """A CPU sample whose stack is `frames`, the innermost first, each ``function@module``; null: a frame without a name.

        As nsys writes it, a remark on the unwinding stands outermost, and a frame without a name has its address for one.
        """
        number = len(self.rows.get("COMPOSITE_EVENTS", ())) + 1
        self.add(
            "COMPOSITE_EVENTS", id=number, start=start, cpu=0, threadState=1, globalTid=gid(pid, tid, host), cpuCycles=1
        )
        for depth, frame in enumerate((*frames, "[Broken backtraces]@[Broken backtraces]")):
            function, module = (frame or f"0x7f{depth:04x}@/usr/lib/libstripped.so").split("@")
            values = {"symbol": self.string(function), "module": self.string(module), "originalIP": 4096 + depth}
            self.add(
                "SAMPLING_CALLCHAINS",
                id=number,
                stackDepth=depth,
                unwindMethod=7,
                unresolved=None if frame else 1,
                **values,
            )
        return self

    def domain(self, number: int, name: str, pid: int = 100) -> NsysExport:
        """A domain of one process."""
        return self.add("NVTX_EVENTS", start=0, eventType=75, text=name, globalTid=gid(pid, pid), domainId=number)

    def category(self, number: int, name: str, domain: int, pid: int = 100) -> NsysExport:
        """A category of one process's domain."""
        values = {"eventType": 33, "category": number, "text": name, "globalTid": gid(pid, pid), "domainId": domain}
        return self.add("NVTX_EVENTS", start=0, **values)

    def write(self, path: Path) -> Path:
        """Write the file; returns `path`."""
        with closing(sqlite3.connect(path)) as db, db:
            for table, rows in self.rows.items():
                db.execute(f'CREATE TABLE "{table}" ({self.columns[table]}\n)')
                for row in rows:
                    columns = ", ".join(f'"{c}"' for c in row)
                    marks = ", ".join("?" * len(row))
                    db.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', list(row.values()))
        return path
