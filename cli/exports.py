"""What ``aisp-trace export`` does: one output for each trace of a source, none of them over something that exists."""

from __future__ import annotations

import gzip
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ..analyze.document import document
from ..analyze.selection import Selection
from ..report.export_files import MARK, check_free, new_file, new_folder
from ..report.export_perfetto import write_perfetto
from ..report.export_tables import SCHEMA, write_tables
from ..traces.errors import UsageError
from ..traces.open import decompressed
from ..traces.run import write_json
from ..traces.scrub import scrub_sqlite
from .console import json_text, say, size
from .sources import Opened, Source

GZIP_LEVEL: Final = 5
"""A Perfetto trace shrinks to about a quarter; higher levels take twice as long for a few percent."""

REFRESH_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """What to write where. `form` is perfetto, parquet, csv or json; the rest is as `Source.open` and the command say."""

    form: str
    target: Path
    force: bool
    gaps: int
    window: str | None
    attribution: str
    domain: str | None
    selection: Selection | None = None


def export(source: Source, job: Job) -> None:
    """Write `source` as `job` says and print where it is. Raises what reading raises, and `UsageError` for `job.target`."""
    {"perfetto": _perfetto, "json": _json}.get(job.form, _tables)(source, job)


def scrub_traces(source: Source, target: Path, *, force: bool) -> None:
    """Copy each nsys export of `source` without its environment."""
    traces = _traces(source)
    targets = {name: _for_variant(target, name, len(traces)) for name in traces}
    for to in targets.values():
        _check(to, source, force, folder=False)
    for name, path in traces.items():
        with new_file(targets[name], force=force) as building, decompressed(path) as plain:
            scrub_sqlite(plain, building)
        _report(targets[name])


def _perfetto(source: Source, job: Job) -> None:
    names = list(_traces(source))
    for name in names:
        _check(_for_variant(job.target, name, len(names)), source, job.force, folder=False)
    for opened in _opened(source, job):
        target = _for_variant(job.target, opened.variant, len(names))
        with new_file(target, force=job.force) as building, _stream(building, target) as out, _meter(target) as tell:
            events = write_perfetto(opened.trace, opened.analysis, out, progress=tell)
        _report(target, f"{events:,} events")


def _tables(source: Source, job: Job) -> None:
    names = list(_traces(source))
    _check(job.target, source, job.force, folder=True)
    written = 0
    with new_folder(job.target, force=job.force) as building:
        for opened in _opened(source, job):
            folder = building if len(names) == 1 else building / _file_name(opened.variant)
            folder.mkdir(exist_ok=True)
            written += write_tables(opened.trace, opened.analysis, folder, job.form)
        if len(names) > 1:
            folders = {_file_name(name): {"variant": name} for name in names}
            write_json(building / MARK, {"schema": SCHEMA, "format": job.form, "folders": folders})
    _report(job.target, f"{written} tables")


def _json(source: Source, job: Job) -> None:
    _check(job.target, source, job.force, folder=False)
    analyses = [opened.analysis for opened in _opened(source, job)]
    with new_file(job.target, force=job.force) as building:
        building.write_text(json_text(document(analyses)) + "\n", encoding="utf-8")
    _report(job.target)


def _opened(source: Source, job: Job) -> Iterator[Opened]:
    return source.open(
        window=job.window, attribution=job.attribution, domain=job.domain, gaps=job.gaps, selection=job.selection
    )


def _traces(source: Source) -> dict[str | None, Path]:
    """The trace of each recorded variant; of a bare trace, under null."""
    if source.run is None:
        return {None: source.path}
    found = {v.name: source.run.trace_path(v) for v in source.run.manifest.variants}
    return {name: path for name, path in found.items() if path is not None}


def _for_variant(target: Path, variant: str | None, several: int) -> Path:
    """``out.pftrace.gz`` -> ``out.baseline.pftrace.gz``; `target` itself if there is only one trace."""
    if several == 1:
        return target
    inner = target.name.removesuffix(".gz")
    ending = Path(inner).suffix + target.name[len(inner) :]
    return target.with_name(f"{target.name.removesuffix(ending)}.{_file_name(variant)}{ending}")


def _file_name(variant: str | None) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]|^\.", "_", variant or "")


def _check(target: Path, source: Source, force: bool, *, folder: bool) -> None:
    """Before anything is read: may `target` be written?"""
    if target.exists() and any(path.exists() and target.samefile(path) for path in _traces(source).values()):
        raise UsageError(f"{target} is what is to be exported and cannot be the output too; choose another -o")
    check_free(target, force=force, folder=folder)


@contextmanager
def _stream(building: Path, target: Path) -> Iterator[IO[bytes]]:
    with building.open("wb") as raw:
        if target.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as packed:
            yield packed  # type: ignore[misc]  # typeshed: GzipFile is no IO[bytes], though it can be written to


class _Meter:
    """One line on a terminal that shows how far writing has come; nothing elsewhere."""

    def __init__(self, target: Path) -> None:
        self._target, self._last, self._width = target, time.monotonic(), 0
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, done: int, expected: int) -> None:
        now = time.monotonic()
        if self._shown and now - self._last >= REFRESH_S:
            self._last = now
            self._line(f"writing {done:,} of about {expected:,} events")

    def clear(self) -> None:
        if self._width:
            self._line("")

    def _line(self, text: str) -> None:
        print(f"\r{text:<{self._width}}", end="" if text else "\r", file=sys.stderr, flush=True)
        self._width = len(text)


@contextmanager
def _meter(target: Path) -> Iterator[_Meter]:
    meter = _Meter(target)
    try:
        yield meter
    finally:
        meter.clear()


def _report(target: Path, what: str | None = None) -> None:
    total = (
        sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) if target.is_dir() else target.stat().st_size
    )
    say(f"{target}  ({size(total)}{', ' + what if what else ''})")
