"""Open a trace of any kind: an nsys SQLite export, a torch.profiler JSON, an .nsys-rep, compressed or not.

A file's first bytes decide what it is, never its name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from .budget import SQLITE, charge
from .documents import looks_like_json
from .errors import EmptyTraceError, InputError, RecorderError
from .host_ops import with_host_ops
from .model import Trace
from .nsys.schema import SAMPLE_FRAMES
from .nsys.source import SQLITE_MAGIC
from .samples import Sampler, Stretch, no_samples
from .unpack import decompressed, head_of
from .unread import unread_kind

if TYPE_CHECKING:
    import polars as pl

PROGRAMS: Final = (".py", ".sh", ".ipynb")
"""Endings of what somebody wants to have recorded."""

NSYS_REPORT_MAGIC: Final = b"NVIDIA Tegra Profiler Report"

EXPORT_TIMEOUT_S: Final = 1_800

Exporter = Callable[[Path, Path], None]
"""Turns an .nsys-rep (first argument) into an SQLite file (second)."""


class PlainFile:
    """What lies behind a trace file, unpacked and exported when first asked for. Use as a context manager.

    Copies are kept until it is closed, so that a trace's samples can be read after the trace without unpacking it twice.
    """

    def __init__(self, path: Path, export: Exporter | None = None) -> None:
        self.path = path
        self._export = export or export_report
        self._held = ExitStack()
        self._plain: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        self._plain = None

    def open(self) -> Path:
        """The SQLite export or JSON itself; raises `InputError` and `RecorderError` as `open_trace` does."""
        if self._plain is None:
            plain = self._held.enter_context(decompressed(self.path))
            if head_of(plain).startswith(NSYS_REPORT_MAGIC):
                folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="aisp-trace-"))
                exported = Path(folder) / "export.sqlite"
                self._export(plain, exported)
                charge(self.path, exported.stat().st_size, SQLITE)
                plain = exported
            self._plain = plain
        return self._plain

    def sampler(self, trace: Trace) -> Sampler:
        """Reads CPU samples of `trace`, which was read from this file, for as long as it is open."""
        return partial(_samples, self) if SAMPLE_FRAMES in trace.meta.tables else no_samples


def _samples(plain: PlainFile, stretches: Sequence[Stretch]) -> pl.DataFrame:
    from .nsys.samples import read_samples

    return read_samples(plain.open(), stretches)


def open_trace(
    path: str | Path,
    *,
    kind_file: Path | None = None,
    cache: bool = False,
    in_background: bool = False,
    export: Exporter | None = None,
    left_out: Collection[tuple[str, str]] = (),
    metrics: str = "",
    plain: PlainFile | None = None,
) -> Trace:
    """The trace in `path`, ready for analysis (`host_ops` applied).

    `kind_file` is the torch recorder's side file; without one, a ``stages.json`` beside a torch trace is used. With
    `cache` the tables are kept as Parquet (`store`) and reused while the file is the same; `in_background` they are
    written by a thread that the interpreter waits for at its end. `export` replaces ``nsys export``. Columns `left_out`,
    (table, column) pairs, and GPU metrics whose name the regular expression `metrics` does not match, may be missing from
    the trace: an nsys reader saves the time to read them. `plain` is the file behind `path` where more of it is to be read
    later; `export` is then its own.

    Raises `InputError` for anything that is not a readable trace, `EmptyTraceError` if nothing happened in it, and
    `RecorderError` if an .nsys-rep cannot be exported here.
    """
    path = Path(path)
    if plain is None:
        with PlainFile(path, export) as alone:
            return open_trace(
                path,
                kind_file=kind_file,
                cache=cache,
                in_background=in_background,
                left_out=left_out,
                metrics=metrics,
                plain=alone,
            )
    if not cache:
        return _open(plain, kind_file, left_out, metrics)
    from .store import cache_key, load, save

    _require_file(path)
    key = cache_key(path, kind_file or side_file(path), left_out, metrics)
    trace = load(path, key, left_out)
    if trace is None:
        trace = _open(plain, kind_file, left_out, metrics)
        if in_background:
            threading.Thread(target=save, args=(path, key, trace)).start()
        else:
            save(path, key, trace)
    return trace


def _open(plain: PlainFile, kind_file: Path | None, left_out: Collection[tuple[str, str]], metrics: str) -> Trace:
    path = plain.path
    _require_file(path)
    file = plain.open()
    head = head_of(file)
    if head.startswith(SQLITE_MAGIC):
        from .nsys.read import read_nsys

        trace = read_nsys(file, left_out=left_out, metrics=metrics)
    elif looks_like_json(head):
        from .kineto.read import read_kineto

        trace = read_kineto(file, kind_file or side_file(path), path)
    elif (unread := unread_kind(file, path)) is not None:
        raise InputError(f"{path} cannot be read as a trace: it is {unread[0]}; {unread[1]}")
    else:
        found = "it is empty" if not head else "it is neither an nsys export nor a torch.profiler file"
        remedy = "give an nsys .sqlite export, an .nsys-rep, or a torch.profiler .json"
        if path.suffix in PROGRAMS:
            found, remedy = "it is a program", f"record it first: `aisp-trace capture {path}`"
        raise InputError(f"{path} cannot be read as a trace: {found}; {remedy}")
    trace = replace(trace, meta=replace(trace.meta, file=path.name))
    if not (trace.ops.height or trace.api.height or trace.ranges.height):
        odd = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in trace.meta.anomalies.items())
        skipped = ", ".join(f"{name} ({count})" for name, count in trace.meta.unread.items())
        more = f"; rows that cannot be used: {odd}" if odd else ""
        more += f"; events that are not read: {skipped}" if skipped else ""
        also = "NVTX ranges" if trace.meta.recorder == "nsys" else "`record_function` of torch"
        raise EmptyTraceError(
            f"{path} is a trace of {trace.meta.recorder}, but nothing happened in it (no device operation, no CUDA call, no "
            f"range{more}); record the process that does the work, and put "
            f'`with stage("name"):` (`from aisp_trace import stage`), or {also}, around its steps'
        )
    return with_host_ops(trace)


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
        if (versions := _too_new(report, nsys, said)) is not None:
            theirs, ours = versions
            raise RecorderError(
                f"{report} was recorded by Nsight Systems {theirs}, and this one is {ours}; install {theirs} or newer (AISP_NSYS "
                "names it), or run `nsys export --type sqlite` where it was recorded and give the .sqlite"
            )
        raise RecorderError(
            f"{report} could not be exported by {nsys} (exit {done.returncode}; it said: {said}); "
            "use the nsys version that recorded it, or a newer one"
        )


_NEWER: Final = re.compile(r"created in Nsight Systems version \(([\d.]+).*?newer than your current version \(([\d.]+)")
"""What ``nsys export`` says of a report that is too new for it (2025.3 and later)."""

_RECORDED_BY: Final = re.compile(rb"(20\d\d\.\d+(?:\.\d+)+)-[0-9a-z]{6,}")
_TAIL: Final = 1 << 16
"""Bytes at the end of a report in which it names the version that wrote it."""


def _too_new(report: Path, nsys: str, said: str) -> tuple[str, str] | None:
    """(version that recorded `report`, version of `nsys`) where the first is newer; null otherwise.

    `said` is what nsys said of it; where that tells nothing, the versions that both name decide.
    """
    if found := _NEWER.search(said):
        return found[1].rstrip("."), found[2].rstrip(".")
    with report.open("rb") as file:
        file.seek(max(0, report.stat().st_size - _TAIL))
        theirs = [match[1].decode() for match in _RECORDED_BY.finditer(file.read())]
    try:
        answer = subprocess.run([nsys, "--version"], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    ours = _VERSION.search(answer.stdout)
    if not theirs or ours is None or _ordered(theirs[-1]) <= _ordered(ours[0]):
        return None
    return theirs[-1], ours[0]


_VERSION: Final = re.compile(r"20\d\d\.\d+(?:\.\d+)+")


def _ordered(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} cannot be read as a trace: it is a folder without a run; name a trace file")
    if not path.is_file():
        raise InputError(f"{path} cannot be read as a trace: there is no such file; check the path")


def side_file(path: Path) -> Path | None:
    """The torch recorder's side file that is read with the trace `path` unless another is named; null if there is none."""
    beside = path.with_name("stages.json")
    return beside if path.name.startswith("trace.json") and beside.is_file() else None
