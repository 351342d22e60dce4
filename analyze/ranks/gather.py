"""From what a command was given to the partials of a job: found, made where they are missing, read.

A trace that fails is reported and does not stop the rest. Each partial is written as soon as it is made, so that an interrupted
run resumes: a partial whose key is that of its trace and options is not made again.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ...traces.budget import watched
from ...traces.errors import AispTraceError, InputError, UsageError
from ...traces.open import open_trace
from ...traces.output import make_container, real
from ...traces.run import MANIFEST, load_manifest
from ..sources import UNREAD
from . import partials
from .engine import DIED, run_all
from .look import Look
from .make import ranks_of
from .rank import Rank

TRACES: Final = (".sqlite", ".nsys-rep", ".json", ".json.gz", ".sqlite.xz", ".sqlite.gz", ".nsys-rep.gz", ".json.xz")
"""Endings of the traces in a folder; one that is named may have any."""

REPORT: Final = ".nsys-rep"

NO_METRICS: Final = "$^"
"""Matches no name: of GPU metrics a partial keeps nothing."""

NOT_TRACES: Final = frozenset({"manifest.json", "stages.json", "timings.json"})
"""What a run folder holds beside them."""

OURS: Final = b'"schema": "aisp-trace/'
"""How documents of aisp-trace begin: what --json prints, and what stands beside runs and traces."""

SMALL_BYTES: Final = 1 << 20
"""JSON of less than this is read to see whether it holds events. Traces of torch.profiler name them near their beginning."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was given: `traces` to look at, and `partials` that are there, each once and in order of their names."""

    traces: tuple[Path, ...]
    partials: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A trace that is read in place of another: its `file`, the path `named` that tells rank and host, and which rank of how many
    the run of the other recorded."""

    file: Path
    named: str
    of_run: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A trace or partial that is not part of the job, and why."""

    file: str
    why: str


def find(given: Sequence[str]) -> Found:
    """The traces and partials that `given` names: files, folders (with all below them), and patterns that no shell expanded.

    Raises `InputError` for what does not exist, and for a folder or pattern without any; `UsageError` where several variants of
    one run are among them.
    """
    traces: dict[Path, None] = {}
    ready: dict[Path, None] = {}
    for word in given:
        path = Path(word)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
            here = [p for p in inside if p.name.endswith((partials.SUFFIX, *TRACES)) and p.name not in NOT_TRACES]
            here = [p for p in here if p.suffix != REPORT or p.with_suffix(".sqlite") not in here]  # exported already
            missing = f"{path} holds neither traces nor partials (*{partials.SUFFIX}); name another folder"
        elif path.is_file():
            here, missing = [path], ""
        else:
            here = _matching(path)
            missing = (
                f"{word} does not exist, and matches no file; give traces, partials, a folder of them, or a pattern"
            )
        here = [file for file in here if path == file or not _is_other_json(file)]
        if not here:
            raise InputError(missing)
        for file in here:
            (ready if file.name.endswith(partials.SUFFIX) else traces)[file] = None
    _refuse_variants(traces)
    return Found(tuple(traces), tuple(ready))


def _refuse_variants(traces: Iterable[Path]) -> None:
    """Raise `UsageError` where `traces` hold several variants of one run: these ran one after the other, never together."""
    variants: dict[Path, dict[str, None]] = {}
    shown: dict[Path, Path] = {}
    for trace in traces:
        folder = real(trace).parent
        if (folder.parent / MANIFEST).is_file():
            variants.setdefault(folder.parent, {})[folder.name] = None
            shown.setdefault(folder.parent, trace.parent.parent if trace.parent.name else folder.parent)
    for run, found in variants.items():
        if len(found) > 1 and (names := [name for name in _variants_of(run) if name in found])[1:]:
            raise UsageError(
                f"{shown[run]} is one run, and its variants ({', '.join(names)}) are not ranks of a job; "
                f"`aisp-trace compare {shlex.quote(str(shown[run]))}` compares them, and `aisp-trace capture --ranks` records "
                "a job"
            )


def _variants_of(run: Path) -> list[str]:
    try:
        return [variant.name for variant in load_manifest(run / MANIFEST).variants]
    except InputError:
        return []  # a manifest of something else


def _matching(pattern: Path) -> list[Path]:
    """The files that a pattern names which no shell has expanded."""
    try:
        found = Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor)))
        return sorted(p for p in found if p.is_file())
    except (ValueError, IndexError):  # no pattern, such as an empty word
        return []


def _is_other_json(file: Path) -> bool:
    """Whether `file` is a document of ours, or small JSON without events, such as a configuration: nobody who named its folder
    meant it as a trace."""
    if not file.name.endswith(".json"):
        return False
    try:
        with file.open("rb") as opened:
            head = opened.read(SMALL_BYTES)
    except OSError:
        return False  # the worker will say why
    if OURS in head[:80]:
        return True
    return len(head) < SMALL_BYTES and head.lstrip()[:1] != b"[" and b"traceEvents" not in head


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") or part.endswith(".aisp-cache") for part in path.parts)


def make(
    traces: Sequence[Path | Copy],
    folder: Path,
    look: Look,
    pool: Callable[[], AbstractContextManager[Executor]],
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[Path], list[Failed]]:
    """The partials of `traces` in `folder`, made through the executor that `pool()` opens unless they are there, and what failed.

    Raises `InputError` where `folder` cannot be written, and `UsageError` as the executor does.
    """
    make_container(folder, "--partial")
    known = _known(folder)
    files: list[Path] = []
    failed: list[Failed] = []
    task = partial(partials_of, look=look)
    waiting: list[str | Copy] = []
    for trace in traces:  # what is there needs no executor
        key = _digest_of(trace.file if isinstance(trace, Copy) else trace, look)
        if key is not None and key in known:
            files += [folder / name for name in known[key]]
        else:
            waiting.append(trace if isinstance(trace, Copy) else str(trace.absolute()))
    if not waiting:
        return files, failed
    with pool() as executor, closing(run_all(executor, task, waiting)) as results:
        for done, (one, made) in enumerate(results, 1):
            tell(done, len(waiting))
            if isinstance(made, BaseException):
                failed.append(Failed(one.named if isinstance(one, Copy) else one, _why(made)))
                continue
            for name, content in made:
                partials.put(content, folder / name)
                files.append(folder / name)
    return sorted(files), sorted(failed, key=lambda one: one.file)


def _why(error: BaseException) -> str:
    if isinstance(error, AispTraceError):
        return str(error)
    if type(error).__name__ in ("BrokenProcessPool", "KilledWorker"):
        return DIED
    return f"{type(error).__name__}: {str(error)[:200]}"


def partials_of(trace: str | Copy, look: Look) -> list[tuple[str, bytes]]:
    """The task of a worker: the partials of one trace, as their names and contents. Raises as `open_trace` and `ranks_of` do."""
    copy = trace if isinstance(trace, Copy) else Copy(Path(trace), trace, run_says(Path(trace)))
    path = copy.file
    with watched():
        opened = open_trace(path, left_out=UNREAD, metrics=NO_METRICS)
        key = partials.key_of(path, look)
        ranks = ranks_of(opened, look, partials.clock_of(key), copy.named, copy.of_run)
    if not ranks:
        raise InputError(
            f"{path.name} holds no device operation in its window; a rank without any is not part of a job"
        )
    return [(partials.place(path, rank, Path()).name, partials.content(rank, key)) for rank in ranks]


def run_says(trace: Path) -> tuple[int, int] | None:
    """Which rank of how many the run that `trace` lies in recorded; null where it lies in none that says so."""
    try:
        manifest = load_manifest(trace.absolute().parents[1] / MANIFEST)
    except (InputError, IndexError):
        return None
    return None if manifest.rank is None or manifest.ranks is None else (manifest.rank, manifest.ranks)


def _digest_of(trace: Path, look: Look) -> str | None:
    try:
        return _digest(partials.key_of(trace, look))
    except OSError:
        return None  # the worker will say why


def _digest(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _known(folder: Path) -> dict[str, tuple[str, ...]]:
    """The names of the partials in `folder` by the digest of their key, where all parts of a trace are there and sound."""
    parts: dict[str, dict[int, str]] = {}
    many: dict[str, int] = {}
    for file in sorted(folder.glob(f"*{partials.SUFFIX}")):
        try:
            head = partials.head_of(file)
            digest = _digest(head["key"])
            parts.setdefault(digest, {})[int(head["part"])] = file.name
            many[digest] = int(head["parts"])
        except (InputError, KeyError, TypeError, ValueError):
            continue  # made again
    return {digest: tuple(of[i] for i in sorted(of)) for digest, of in parts.items() if len(of) == many[digest]}


def read(files: Iterable[Path]) -> tuple[list[Rank], list[Failed]]:
    """The ranks in partials, and what cannot be read."""
    ranks, failed = [], []
    for file in files:
        try:
            ranks.append(partials.read(file))
        except InputError as exc:
            failed.append(Failed(str(file), str(exc)))
    return ranks, failed
