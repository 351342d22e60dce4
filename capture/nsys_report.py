"""From what nsys recorded to the export that is kept.

Three steps, each with its own log files in the recording's folder:

    QdstrmImporter   trace.qdstrm -> trace.nsys-rep, only if nsys left a bare stream because it finds no importer
    nsys export      trace.nsys-rep -> an SQLite file holding the environment of every process
    scrub            -> trace.sqlite without it; the unscrubbed export is deleted
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError
from .environments import NVTX
from .export_check import Counts, count_rows
from .nsight import Nsys
from .permissions import refused_counters
from .processes import Finished, how_ended, last_words, run_process
from .stages import DOMAIN

TRACE: Final = "trace.sqlite"
REPORT: Final = "trace.nsys-rep"
STREAM: Final = "trace.qdstrm"

EXPORT_TIMEOUT_S: Final = 900.0
"""Importing and exporting are not the program's time; GPU metrics of minutes have taken minutes."""


def make_report(nsys: Nsys, folder: Path, done: Finished, *, gated: bool) -> None:
    """See that `folder` has a report of what `nsys` recorded; `done` says how it ended. Raises `RecorderError` if it has none."""
    if (folder / REPORT).is_file():
        return
    said = last_words(folder, "nsys-profile")
    if not (folder / STREAM).is_file():
        if gated:  # the range that opens the recording was never seen
            raise RecorderError(no_ranges(nsys))
        remedy = refused_counters(said)
        raise RecorderError(
            f"nsys recorded nothing and {how_ended(done.exit_code)} ({said or 'without a word'}); "
            f"{remedy + '; or take --profile minimal' if remedy else f'see the logs in {folder}'}"
        )
    importer = nsys.importer
    if importer is None or importer.problem is not None:
        raise RecorderError(f"nsys left only {folder / STREAM}, and it cannot be made a report: {nsys.problem}")
    command = [str(importer.path), "-i", str(folder / STREAM), "-o", str(folder / REPORT)]
    imported = _step(command, folder, "nsys-import", {**os.environ, **importer.environment()})
    if not (folder / REPORT).is_file():
        said = last_words(folder, "nsys-import")
        raise RecorderError(
            f"{importer.path} could not make a report of {folder / STREAM} (exit code {imported.exit_code}: {said})"
            f"; see the logs in {folder}"
        )
    (folder / STREAM).unlink()


def export(nsys: Nsys, folder: Path) -> Counts:
    """Export the report in `folder`, scrubbed, and count what is in it; raises `RecorderError` if no file comes of it."""
    from ..traces.scrub.nsys import scrub_sqlite  # lazily: only recording needs it

    raw = folder / "unscrubbed.sqlite"
    try:
        _export_report(nsys, folder / REPORT, raw, folder)
        counts = count_rows(raw)
        scrub_sqlite(raw, folder / TRACE)
    finally:
        for name in (raw, Path(f"{raw}-wal"), Path(f"{raw}-shm"), Path(f"{raw}-journal")):
            name.unlink(missing_ok=True)
    return counts


def _export_report(nsys: Nsys, report: Path, sqlite: Path, logs: Path) -> None:
    sqlite.unlink(missing_ok=True)
    command = [str(nsys.path), "export", "--type=sqlite", "--force-overwrite=true", "-o", str(sqlite), str(report)]
    done = _step(command, logs, "nsys-export", os.environ)
    if not sqlite.is_file():
        said = last_words(logs, "nsys-export")
        raise RecorderError(
            f"{nsys.path} {nsys.version} could not export {report} (exit code {done.exit_code}: {said}); a report made "
            f"by a newer nsys needs that one: name it in AISP_NSYS"
        )


def _step(command: Sequence[str], logs: Path, name: str, environment: Mapping[str, str]) -> Finished:
    try:
        done = run_process(
            command,
            stdout=logs / f"{name}.stdout.log",
            stderr=logs / f"{name}.stderr.log",
            timeout_s=EXPORT_TIMEOUT_S,
            environment=environment,
        )
    except OSError as exc:
        raise RecorderError(f"{command[0]} cannot be started: {exc}; see `aisp-trace doctor`") from exc
    if done.timed_out:
        raise RecorderError(f"{name} did not end within {EXPORT_TIMEOUT_S:g} s; see the logs in {logs}")
    return done


def no_ranges(nsys: Nsys) -> str:
    """That not one range of ours was recorded, and which packages are known not to work together."""
    import importlib.metadata  # lazily: it costs more than the rest of this module

    try:
        nvtx = importlib.metadata.version("nvtx")
    except importlib.metadata.PackageNotFoundError:
        nvtx = "(not installed)"
    return (
        f"nsys {nsys.version} recorded no ranges of domain {DOMAIN!r}; the installed nvtx is {nvtx}, and nvtx 0.2.12 and "
        f"later record nothing under nsys 2022.4 and 2023.4: `pip install {NVTX}`, or record with a newer nsys"
    )
