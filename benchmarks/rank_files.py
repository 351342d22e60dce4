"""Write the ranks of a simulated job as files, one nsys SQLite export a rank, each different.

    python -P -m aisp_trace.benchmarks.rank_files OUT --ranks 64 --kernels 200000

The exports have the schema of nsys 2025.3. What they hold is in ``ranks.py``: real iterations of two ranks of an H200,
repeated, on clocks up to a second apart. One rank's `data` stage is slow in the first eighth of the iterations;
``OUT.truth.json`` says which.
"""

from __future__ import annotations

import argparse
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


def write_job(folder: Path, ranks: int, kernels: int) -> dict[str, Any]:
    """Write ``train.rank<n>.sqlite`` of each rank, with at least `kernels` kernels, into `folder`; what was planted."""
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
        offset_ns={r: int(rng.integers(-(10**9), 10**9)) for r in range(ranks)},
        rename={"h2d": "data"},
    )
    job = Simulated(plan, real)
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
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
    asked = parser.parse_args(argv)
    print(json.dumps(write_job(asked.out, asked.ranks, asked.kernels))[:200])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
