"""One output for each trace of a source, by the rule of `traces.output`."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ...analyze.document import document
from ...analyze.sources import Asked, Source
from ...traces.content import file_name
from ...traces.errors import UsageError
from ...traces.inputs import inputs_of_run, inputs_of_trace
from ...traces.output import Kind, Output, check_all
from ...traces.run import write_json
from ...traces.scrub.personal import Policy
from ...traces.scrub.run import scrub_plain
from ...traces.unpack import decompressed
from ..documents.text import json_text
from .perfetto import PERFETTO, write_perfetto
from .tables import MARK, SCHEMA, TABLES_FOLDER, write_tables

ANALYSIS: Final = Kind("analysis of aisp-trace", lambda head: b'"schema": "aisp-trace/analysis/' in head[:40])
SCRUBBED: Final = Kind("scrubbed trace")
"""A trace may be the only recording of what it holds, so none is replaced without --force, whoever wrote it."""

GZIP_LEVEL: Final = 5
"""A Perfetto trace shrinks to about a quarter; higher levels take twice as long for a few percent."""

Meter = Callable[[int, int], None]
"""Called with how many events are written, and of about how many."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to write where. `form` is perfetto, parquet, csv or json."""

    form: str
    target: Path
    force: bool
    asked: Asked
    original: Source | None = None
    """What the exported source is a scrubbed copy of: never to be overwritten."""


@dataclass(frozen=True, slots=True)
class Written:
    """One output that is complete: its bytes, and what is in it (``12 tables``)."""

    output: Output
    nbytes: int
    what: str | None = None


def export(source: Source, job: Job, meter: Meter = lambda done, expected: None) -> Iterator[Written]:
    """Write `source` as `job` says, output by output. Raises what reading raises, and as `Output.check` does."""
    if job.form == "perfetto":
        return _perfetto(source, job, meter)
    return iter([(_json if job.form == "json" else _tables)(source, job)])


def scrub_traces(source: Source, target: Path, *, force: bool) -> Iterator[Written]:
    """Copy each trace of `source` without its environment, one by one: an nsys export, or a torch.profiler trace."""
    traces, policy = _traces(source), Policy.of_this_machine()
    outputs = _files(source, target, SCRUBBED, force)
    for name, path in traces.items():
        with outputs[name].file() as building, decompressed(path) as plain:
            scrub_plain(plain, path, building, policy, keep_names=True)
            nbytes = building.stat().st_size
        yield Written(outputs[name], nbytes)


def _perfetto(source: Source, job: Job, meter: Meter) -> Iterator[Written]:
    outputs = _files(source, job.target, PERFETTO, job.force, job.original)
    for opened in source.open(job.asked):
        output = outputs[opened.variant]
        with output.file() as building:
            with _stream(building, output.path) as out:
                events = write_perfetto(opened.trace, opened.analysis, out, progress=meter)
            nbytes = building.stat().st_size
        yield Written(output, nbytes, f"{events:,} events")


def _tables(source: Source, job: Job) -> Written:
    names = _file_names(source)
    output = _output(job.original or source, job.target, TABLES_FOLDER, job.force)
    output.check()
    written = 0
    with output.folder() as building:
        for opened in source.open(job.asked):
            folder = building if len(names) == 1 else building / names[opened.variant]
            folder.mkdir(exist_ok=True)
            written += write_tables(opened.trace, opened.analysis, folder, job.form)
        if len(names) > 1:
            folders = {folder: {"variant": name} for name, folder in names.items()}
            write_json(building / MARK, {"schema": SCHEMA, "format": job.form, "folders": folders})
        nbytes = sum(file.stat().st_size for file in building.rglob("*") if file.is_file())
    return Written(output, nbytes, f"{written} tables")


def _json(source: Source, job: Job) -> Written:
    output = _output(job.original or source, job.target, ANALYSIS, job.force)
    output.check()
    text = json_text(document([opened.analysis for opened in source.open(job.asked)])) + "\n"
    output.write_text(text)
    return Written(output, len(text))


def _traces(source: Source) -> dict[str | None, Path]:
    """The trace of each recorded variant; of a bare trace, under null."""
    if source.run is None:
        return {None: source.path}
    found = {v.name: source.run.trace_path(v) for v in source.run.manifest.variants}
    return {name: path for name, path in found.items() if path is not None}


def _files(
    source: Source, target: Path, kind: Kind, force: bool, original: Source | None = None
) -> dict[str | None, Output]:
    """One file for each trace, all of them checked: ``out.pftrace.gz`` -> ``out.baseline.pftrace.gz`` where there are several."""
    names = _file_names(source)
    named = _output(original or source, target, kind, force)
    named.check_place()
    streamed = named.is_stream
    if len(names) > 1 and streamed and not (target.exists() and target.samefile(os.devnull)):
        raise UsageError(f"{len(names)} traces, each a file of its own, cannot go to {target}; name one with --variant")
    if len(names) == 1 or streamed:
        places = dict.fromkeys(names, target)
    else:
        inner = target.name.removesuffix(".gz")
        ending = Path(inner).suffix + target.name[len(inner) :]
        if not ending and kind is SCRUBBED:
            ending = ".sqlite"  # a copy that no command takes for a trace would be of no use
        stem = target.name.removesuffix(ending)
        places = {variant: target.with_name(f"{stem}.{name}{ending}") for variant, name in names.items()}
    outputs = {variant: _output(original or source, place, kind, force) for variant, place in places.items()}
    check_all(list(outputs.values()))
    return outputs


def _output(source: Source, target: Path, kind: Kind, force: bool) -> Output:
    inputs = inputs_of_trace(source.path) if source.run is None else inputs_of_run(source.run)
    return Output(target, kind, inputs, force, "-o")


def _file_names(source: Source) -> dict[str | None, str]:
    """What each recorded variant is called in a file's name; no two are called the same."""
    names: dict[str | None, str] = {}
    for variant in _traces(source):
        name = file_name(variant or "")
        names[variant] = name if name not in names.values() else f"{name}_{len(names)}"
    return names


@contextmanager
def _stream(building: Path, target: Path) -> Iterator[IO[bytes]]:
    with building.open("wb") as raw:
        if target.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as packed:
            yield packed  # type: ignore[misc]  # typeshed: GzipFile is not IO[bytes], though it can be written to
