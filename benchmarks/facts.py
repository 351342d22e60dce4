"""The rows of an export that are not events of the program: machines, processes, threads, domains, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from aisp_trace.benchmarks.export_file import CATEGORIES, DOMAINS, HOST, ExportFile
from aisp_trace.benchmarks.program import STREAMS
from aisp_trace.benchmarks.timeline import AUTOGRAD, LOADER, MAIN, Times

DOMAIN_CREATED, CATEGORY_NAMED, START_END_RANGE = 75, 33, 60
"""NVTX event types, as ENUM_NSYS_EVENT_TYPE numbers them."""
GRAPH_NODE_CREATED: Final = 77

DEVICE_NAME: Final = "NVIDIA H100 80GB HBM3"
DEVICE: Final = {
    "isDiscrete": 1, "l2CacheSize": 52_428_800, "totalMemory": 85_017_493_504, "memoryBandwidth": 3_352_320_000_000,
    "clockRate": 1_980_000_000, "smCount": 132, "chipName": "GH100", "threadsPerWarp": 32, "asyncEngines": 3,
    "maxWarpsPerSm": 64, "maxBlocksPerSm": 32, "maxThreadsPerBlock": 1_024, "computeMajor": 9, "computeMinor": 0,
    "smMajor": 9, "smMinor": 0,
}  # fmt: skip
"""An H100 SXM as its runtime describes it: 5 HBM3 stacks at 3.35 TB/s, 132 multiprocessors."""

STATICS: Final = 24
"""Variables of loaded modules; their memory rows have kind 5 and no correlation."""


def write_facts(file: ExportFile, names: Sequence[str], graph_nodes: Times, seed: int) -> None:
    """Everything about processes called `names`, before the first event; `graph_nodes` are the ids of one process."""
    database, vm = file.database, HOST
    pids = file.pids.tolist()
    devices = sorted(set(file.devices.tolist()))
    database.executemany(
        "INSERT INTO PROCESSES VALUES (?, ?, ?)", [(vm | pid << 24, pid, n) for pid, n in zip(pids, names, strict=True)]
    )
    threads = ((MAIN, "python"), (AUTOGRAD, "pt_autograd_0"), (LOADER, "pin_memory"))
    database.executemany(
        "INSERT INTO ThreadNames VALUES (?, 20, ?)",
        [(file.string(n), int(file.thread_id(p, t))) for p in range(len(pids)) for t, n in threads],
    )
    for device in devices:
        own = {
            "vmId": vm,
            "id": device,
            "name": DEVICE_NAME,
            "busLocation": f"0000:{8 + device:02x}:00.0",
            "cuDevice": device,
        }
        row = own | DEVICE | {"uuid": f"{seed:08x}-0000-4000-8000-{device:012x}"}
        database.execute(
            f"INSERT INTO TARGET_INFO_GPU ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
    for pid, own_device in zip(pids, file.devices.tolist(), strict=True):
        database.executemany("INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (?, ?, ?)", [(d, d, pid) for d in devices])
        database.execute(
            "INSERT INTO TARGET_INFO_CUDA_CONTEXT_INFO VALUES (?, 0, 1, ?, ?, 1, 0, 0)", (STREAMS[0], pid, own_device)
        )
        database.executemany(
            "INSERT INTO TARGET_INFO_CUDA_STREAM VALUES (?, 0, 1, ?, 1, 0, ?)",
            [(s, pid, 3 if s == STREAMS[0] else 2) for s in STREAMS],
        )
    _describe_ranges(file)
    _describe_memory_and_graphs(file, graph_nodes)
    _describe_recording(file)


def _describe_ranges(file: ExportFile) -> None:
    """Domains and categories of each process, and two start/end ranges of the default domain.

    One stays open when the recording stops, the other is ended by another thread than the one that started it.
    """
    rows: list[tuple[int | str | None, ...]] = []
    for process in range(len(file.pids)):
        main, loader = (int(file.thread_id(process, t)) for t in (MAIN, LOADER))
        for domain in DOMAINS:
            number = int(file.domain_id(process, domain))
            rows.append((1_000 + number, None, DOMAIN_CREATED, None, None, domain, main, None, number))
        aisp = int(file.domain_id(process, "aisp"))
        for number, category in enumerate(CATEGORIES, 1):
            rows.append((1_100 + number, None, CATEGORY_NAMED, None, number, category, main, None, aisp))
        rows.append((1_200, None, START_END_RANGE, 1, None, "training", main, None, 0))
        rows.append((1_300, 90_000, START_END_RANGE, 2, None, "dataset opened", main, loader, 0))
    columns = "start, end, eventType, rangeId, category, text, globalTid, endGlobalTid, domainId"
    file.database.executemany(f"INSERT INTO NVTX_EVENTS ({columns}) VALUES ({', '.join('?' * 9)})", rows)
    file.truth.rows["NVTX_EVENTS"] += len(rows)


def _describe_memory_and_graphs(file: ExportFile, graph_nodes: Times) -> None:
    for process, (pid, device) in enumerate(zip(file.pids.tolist(), file.devices.tolist(), strict=True)):
        number = np.arange(STATICS)
        full = np.full(STATICS, 1)
        pids = full * (HOST | pid << 24)
        address = 0x7F80_0000_0000 + 4_096 * number
        columns = [
            2_000 + 100 * number,
            pids,
            full * device,
            full * 0,
            address,
            full * 2_304,
            full * 5,
            full * 0,
            full * 0,
        ]
        file.insert("CUDA_GPU_MEMORY_USAGE_EVENTS", columns)
        made = 200_000 + 1_500 * np.arange(len(graph_nodes))
        same = np.ones_like(made)
        thread, name = int(file.thread_id(process, MAIN)), file.string("cudaGraphKernelNode")
        file.insert(
            "CUDA_GRAPH_NODE_EVENTS",
            [made, made, same * GRAPH_NODE_CREATED, same * thread, same * name, graph_nodes],
        )


def _describe_recording(file: ExportFile) -> None:
    export = {
        "EXPORT_PRODUCT_NAME": "NVIDIA Nsight Systems",
        "EXPORT_PRODUCT_VERSION": "2025.3.2.0",
        "EXPORT_PRODUCT_DATE": "2025.3",
        "EXPORT_SCHEMA_VERSION": "3.20.3",
        "EXPORT_SCHEMA_VERSION_MAJOR": "3",
        "EXPORT_SCHEMA_VERSION_MINOR": "20",
        "EXPORT_SCHEMA_VERSION_MICRO": "3",
        "EXPORT_PLATFORM": "linux-desktop",
        "EXPORT_ARCH": "x64",
        "EXPORT_HOST": "synthetic",
    }
    capture = [
        ("DEVICE_ID", "Synthetic"),
        ("CAPTURE_EVENT_TYPE", "NvtxEvents"),
        ("CAPTURE_EVENT_TYPE", "Cuda"),
        ("PROCESS_0:CUDA_GRAPH_TRACE_OPTIONS:MODE", "Node"),
        ("PROCESS_0:COLLECT_GPU_MEMORY_USAGE", "true"),
    ]
    file.database.executemany("INSERT INTO META_DATA_EXPORT VALUES (?, ?)", list(export.items()))
    file.database.executemany("INSERT INTO META_DATA_CAPTURE VALUES (?, ?)", capture)
    said = "Synthetic trace: generated, not recorded."
    file.database.execute("INSERT INTO DIAGNOSTIC_EVENT VALUES (0, 1, 3, 1, ?, NULL)", (said,))


def finish_facts(file: ExportFile) -> None:
    """What is known only at the end: how long the recording was."""
    end = file.truth.end_ns + 1_000_000
    file.database.execute("INSERT INTO ANALYSIS_DETAILS VALUES (?, ?, 0, ?)", (HOST, end, end))
    file.database.execute(
        "INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (?, ?, ?)",
        (1_735_689_600_000_000_000, "2025-01-01T00:00:00", "2025-01-01T00:00:00"),
    )
