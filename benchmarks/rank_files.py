"""Write the ranks of a simulated job as files, one nsys SQLite export or torch.profiler trace a rank, each different.

    python -P -m aisp_trace.benchmarks.rank_files OUT --ranks 64 --kernels 200000
    python -P -m aisp_trace.benchmarks.rank_files OUT --ranks 8 --kernels 1000 --torch

The exports have the schema of nsys 2025.3. What they hold is in ``ranks.py``: real iterations of two ranks of an H200,
repeated, on clocks up to a second apart. One rank's `data` stage is slow in the first eighth of the iterations;
``OUT.truth.json`` says which.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from aisp_trace.benchmarks.export_file import HOST, UNSET, ExportFile
from aisp_trace.benchmarks.facts import DEVICE
from aisp_trace.benchmarks.ranks import Delay, Plan, Simulated, templates
from aisp_trace.benchmarks.truth import Truth
from aisp_trace.traces.model import Trace

LATE_NS: Final = 2_000_000
"""How long the slow rank's data take longer: two fifths of an iteration."""

COPIES: Final = {"h2d": (1, 1, 2), "d2h": (2, 2, 1), "d2d": (8, 2, 2)}
"""copyKind, srcKind and dstKind of a copy: pinned memory on the host."""

DOMAIN, CREATED, PUSHED = 1, 75, 59
"""The domain's number, and the NVTX events of its making and of a pushed range."""


def write_job(folder: Path, ranks: int, kernels: int, *, torch: bool = False, apart_ns: int = 10**9) -> dict[str, Any]:
    """Write ``train.rank<n>.sqlite`` of each rank (with `torch` ``.json.gz``) into `folder`, of at least `kernels` kernels;
    what was planted. Clocks are up to `apart_ns` off."""
    real = templates()
    per_iteration = sum(real[0][0].ops["kind"].is_in(["compute", "comm"]))
    iterations = -(-kernels // per_iteration)
    rng = np.random.default_rng(ranks)
    slow = int(rng.integers(ranks))
    steps = range(1, iterations // 8 + 2)
    plan = Plan(
        ranks,
        iterations,
        {(slow, i): [Delay("h2d", LATE_NS)] for i in steps},
        offset_ns={r: int(rng.integers(-apart_ns, apart_ns + 1)) for r in range(ranks)},
        rename={"h2d": "data"},
        groups=[range(ranks)] if torch else None,
    )
    job = Simulated(plan, real)
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        if torch:
            write_torch(folder / f"train.rank{rank}.json.gz", job.trace(rank))
        else:
            write_export(folder / f"train.rank{rank}.sqlite", job.trace(rank))
    truth = {"rank": slow, "iterations": list(steps), "stage": "data", "ns": LATE_NS}
    folder.with_name(f"{folder.name}.truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return truth


def write_export(path: Path, trace: Trace) -> None:
    """Write `trace` (one process, one device, ranges of one domain) to `path`, which must not exist."""
    pid = int(trace.ops["pid"][0])
    with ExportFile(path, np.random.default_rng(pid), [pid], [0], Truth()) as file:
        _facts(file, pid)
        process = HOST | pid << 24
        calls = trace.api.sort("start_ns")
        names = _ids(file, calls["name"])
        thread = process | calls["tid"].to_numpy().astype(np.int64)
        file.insert(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            _columns(calls.height, calls["start_ns"], calls["end_ns"], 0, thread, calls["correlation"], names, 0),
        )
        for table, kinds in _OPS.items():
            ops = trace.ops.filter(pl.col("kind").cast(pl.String).is_in(kinds)).sort("start_ns")
            if ops.height:
                file.insert(table, _op_columns(file, table, ops, process))
        ranges = trace.ranges.sort("start_ns")
        thread = process | ranges["tid"].to_numpy().astype(np.int64)
        text, nbytes = _ids(file, ranges["name"]), ranges["nbytes"].fill_null(UNSET)
        file.insert(
            "NVTX_EVENTS",
            _columns(
                ranges.height, ranges["start_ns"], ranges["end_ns"], PUSHED, UNSET, UNSET, thread, text, DOMAIN, nbytes
            ),
        )


def write_torch(path: Path, trace: Trace) -> None:
    """Write `trace` (one process, one device) to `path` as torch.profiler would: times in us, iterations as ``ProfilerStep#``."""
    pid = int(trace.ops["pid"][0])
    events: list[dict[str, Any]] = []
    said = {row["start_ns"]: row for row in trace.comms.iter_rows(named=True)}
    for row in trace.ops.sort("start_ns").iter_rows(named=True):
        args = {"device": 0, "context": 1, "stream": row["stream"], "correlation": row["correlation"]}
        args["External id"] = row["correlation"]
        if row["kind"] in COPIES or row["kind"] == "memset":
            args["bytes"] = row["nbytes"] or 0
        if (comm := said.get(row["start_ns"])) and row["kind"] == "comm":
            members = comm["ranks"].split(", ")
            args |= {"Collective name": "allreduce", "Group size": comm["group_size"], "Seq": comm["seq"]}
            args |= {"Process Group Name": comm["process_group"], "Process Group Ranks": f"[{', '.join(members)}]"}
        category, name = _TORCH.get(str(row["kind"]), ("gpu_memcpy", "Memcpy"))
        events.append(_event(category, name or _old_name(row["name"]), 0, row["stream"], row, args))
    for row in trace.api.sort("start_ns").iter_rows(named=True):
        correlation = {"correlation": row["correlation"], "External id": row["correlation"]}
        events.append(_event("cuda_runtime", row["name"], pid, row["tid"], row, correlation))
    ranges = trace.ranges.sort("start_ns", -pl.col("end_ns"))
    for row in ranges.iter_rows(named=True):
        step = sum(1 for e in events if e["name"].startswith("ProfilerStep#")) if row["name"] == "iteration" else 0
        name = f"ProfilerStep#{step}" if row["name"] == "iteration" else str(row["name"])
        events.append(_event("user_annotation", name, pid, row["tid"], row, {}))
    world = {key: int(trace.meta.capture[key]) for key in ("rank", "world_size")}
    whole = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA H200", "totalGlobalMem": 150109880320, "numSms": 132}],
        "distributedInfo": {"backend": "nccl", **world},
        "traceEvents": events,
    }
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        json.dump(whole, file)


_TORCH: Final = {
    "compute": ("kernel", ""),
    "comm": ("kernel", ""),
    "memset": ("gpu_memset", "Memset (Device)"),
    "h2d": ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)"),
    "d2h": ("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)"),
    "d2d": ("gpu_memcpy", "Memcpy DtoD (Device -> Device)"),
}


def _old_name(kernel: Any) -> str:
    """A collective's kernel by the name it had before NCCL 2.19, the only one that every tool knows."""
    return str(kernel).replace("ncclDevKernel_", "ncclKernel_")


def _event(category: str, name: str, pid: int, tid: int, row: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    start, end = row["start_ns"], row["end_ns"]
    times = {"ts": start / 1e3, "dur": (end - start) / 1e3}
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, **times, "args": args}


_OPS: Final = {
    "CUPTI_ACTIVITY_KIND_KERNEL": ("compute", "comm"),
    "CUPTI_ACTIVITY_KIND_MEMCPY": tuple(COPIES),
    "CUPTI_ACTIVITY_KIND_MEMSET": ("memset",),
}


def _op_columns(file: ExportFile, table: str, ops: pl.DataFrame, process: int) -> list[Any]:
    place = (ops["start_ns"], ops["end_ns"], 0, ops["stream"], ops["correlation"], process)
    if table.endswith("KERNEL"):
        name = _ids(file, ops["name"])
        grid_id = np.arange(1, ops.height + 1)
        return _columns(ops.height, *place, UNSET, grid_id, name, name, name, 64, 132, 1, 1, 256, 1, 1, 0)
    nbytes = ops["nbytes"].fill_null(0)
    if table.endswith("MEMSET"):
        return _columns(ops.height, *place, nbytes)
    kinds = np.array([COPIES[kind] for kind in ops["kind"].cast(pl.String)]).T
    return _columns(ops.height, *place, nbytes, *kinds, UNSET, UNSET, UNSET, UNSET)


def _ids(file: ExportFile, names: pl.Series) -> Any:
    return np.array([file.string(name or "") for name in names.cast(pl.String).to_list()])


def _columns(rows: int, *values: Any) -> list[Any]:
    return [np.broadcast_to(np.asarray(value, np.int64), rows) for value in values]


def _facts(file: ExportFile, pid: int) -> None:
    database, process = file.database, HOST | pid << 24
    database.execute("INSERT INTO PROCESSES VALUES (?, ?, 'python')", (process, pid))
    row = {"vmId": HOST, "id": 0, "cuDevice": 0, "uuid": f"{pid:032x}", **DEVICE, "name": "NVIDIA H200"}
    database.execute(
        f"INSERT INTO TARGET_INFO_GPU ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
    )
    database.execute("INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (0, 0, ?)", (pid,))
    database.execute(
        "INSERT INTO NVTX_EVENTS (start, eventType, text, globalTid, domainId) VALUES (1, ?, 'aisp', ?, ?)",
        (CREATED, process | pid, DOMAIN),
    )
    version = {"EXPORT_PRODUCT_VERSION": "2025.3.2.0", "EXPORT_SCHEMA_VERSION": "3.20.3"}
    database.executemany("INSERT INTO META_DATA_EXPORT VALUES (?, ?)", list(version.items()))
    for table in ("GPU_METRICS", "TARGET_INFO_GPU_METRICS"):
        database.execute(f"DROP TABLE {table}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the job and print what was planted."""
    parser = argparse.ArgumentParser(description="Write a simulated job, one export a rank.", allow_abbrev=False)
    parser.add_argument("out", type=Path, help="the folder to write into")
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--kernels", type=int, default=200_000, help="of each rank, at least")
    parser.add_argument("--torch", action="store_true", help="write traces of torch.profiler")
    parser.add_argument("--one-clock", action="store_true", help="of all ranks; default: up to a second apart")
    asked = parser.parse_args(argv)
    apart_ns = 0 if asked.one_clock else 10**9
    print(json.dumps(write_job(asked.out, asked.ranks, asked.kernels, torch=asked.torch, apart_ns=apart_ns))[:200])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
