"""Open a trace of any kind: an nsys SQLite export, a torch.profiler JSON, an .nsys-rep, compressed or not.

What a file is, is told by its first bytes, never by its name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Final

from .documents import looks_like_json
from .errors import EmptyTraceError, InputError, RecorderError
from .host_ops import with_host_ops
from .model import Trace
from .nsys.source import SQLITE_MAGIC
from .unpack import decompressed, head_of

NSYS_REPORT_MAGIC: Final = b"NVIDIA Tegra Profiler Report"

EXPORT_TIMEOUT_S: Final = 1_800

Exporter = Callable[[Path, Path], None]
"""Turns an .nsys-rep (first argument) into an SQLite file (second)."""


def open_trace(
    path: Path,
    *,
    kind_file: Path | None = None,
    cache: bool = False,
    in_background: bool = False,
    export: Exporter | None = None,
    left_out: Collection[tuple[str, str]] = (),
    metrics: str = "",
) -> Trace:
    """The trace in `path`, ready for analysis (`host_ops` applied).

    `kind_file` is the torch recorder's side file; without one, a ``stages.json`` beside a torch trace is used. With
    `cache` the tables are kept as Parquet (`store`) and reused while the file is the same; `in_background` they are
    written by a thread that the interpreter waits for at its end. `export` replaces ``nsys export``. Columns `left_out`,
    (table, column) pairs, and GPU metrics whose name the regular expression `metrics` does not match, may be missing from
    the trace: an nsys reader saves the time to read them.

    Raises `InputError` for anything that is no readable trace, `EmptyTraceError` if nothing happened in it, and
    `RecorderError` if an .nsys-rep cannot be exported here.
    """
    if not cache:
        return _open(path, kind_file, export, left_out, metrics)
    from .store import cache_key, load, save

    _require_file(path)
    key = cache_key(path, kind_file or side_file(path), left_out, metrics)
    trace = load(path, key, left_out)
    if trace is None:
        trace = _open(path, kind_file, export, left_out, metrics)
        if in_background:
            threading.Thread(target=save, args=(path, key, trace)).start()
        else:
            save(path, key, trace)
    return trace


def _open(
    path: Path, kind_file: Path | None, export: Exporter | None, left_out: Collection[tuple[str, str]], metrics: str
) -> Trace:
    _require_file(path)
    with decompressed(path) as plain:
        head = head_of(plain)
        if head.startswith(NSYS_REPORT_MAGIC):
            with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
                exported = Path(folder) / "export.sqlite"
                (export or export_report)(plain, exported)
                trace = _read_sqlite(exported, left_out, metrics)
        elif head.startswith(SQLITE_MAGIC):
            trace = _read_sqlite(plain, left_out, metrics)
        elif looks_like_json(head):
            from .kineto.read import read_kineto

            trace = read_kineto(plain, kind_file or side_file(path))
        else:
            found = "it is empty" if not head else "its first bytes are those of neither"
            raise InputError(
                f"{path} was to be read as a trace, but {found}; "
                "give an nsys .sqlite export, an .nsys-rep, or a torch.profiler .json"
            )
    trace = replace(trace, meta=replace(trace.meta, file=path.name))
    if not (trace.ops.height or trace.api.height or trace.ranges.height):
        odd = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in trace.meta.anomalies.items())
        check = "with `-t cuda,nvtx`" if trace.meta.recorder == "nsys" else "with CUDA activity, or `record_function`"
        raise EmptyTraceError(
            f"{path} is a trace of {trace.meta.recorder}, but nothing happened in it (no device operation, no CUDA call, no "
            f"range{'; rows that cannot be used: ' + odd if odd else ''}); check that the recorder traced the right "
            f"process {check}"
        )
    return with_host_ops(trace)


def _read_sqlite(path: Path, left_out: Collection[tuple[str, str]], metrics: str) -> Trace:
    from .nsys.read import read_nsys

    return read_nsys(path, left_out=left_out, metrics=metrics)


def export_report(report: Path, target: Path) -> None:
    """Export an .nsys-rep to SQLite with the nsys of ``$AISP_NSYS`` or the PATH.

    Raises `RecorderError` with the remedy if there is none or it fails.
    """
    nsys = os.environ.get("AISP_NSYS") or shutil.which("nsys")
    if nsys is None:
        raise RecorderError(
            f"{report} has to be exported by Nsight Systems first, but no nsys was found; install it or set AISP_NSYS, "
            "or run `nsys export --type sqlite` where it was recorded and give the .sqlite"
        )
    command = [nsys, "export", "--type", "sqlite", "--force-overwrite", "true", "--output", str(target), str(report)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=EXPORT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise RecorderError(f"{report} could not be exported by {nsys} ({exc}); export it by hand") from exc
    if done.returncode != 0 or not target.is_file():
        said = " ".join((done.stderr or done.stdout).split())[-300:] or "nothing"
        raise RecorderError(
            f"{report} could not be exported by {nsys} (exit {done.returncode}; it said: {said}); "
            "use the nsys version that recorded it, or a newer one"
        )


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} was to be read as a trace, but it is a folder without a run; name a trace file")
    if not path.is_file():
        raise InputError(f"{path} was to be read as a trace, but there is no such file; check the path")


def side_file(path: Path) -> Path | None:
    """The torch recorder's side file that is read with the trace `path` unless another is named; null if there is none."""
    beside = path.with_name("stages.json")
    return beside if path.name.startswith("trace.json") and beside.is_file() else None
