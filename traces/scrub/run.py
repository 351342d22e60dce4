"""A copy of a run folder to give away: its manifest and traces, without paths, users, hosts, environment or logs.

    run/manifest.json               commands without folders and values of variables; paths in texts by their last part
    run/<variant>/trace.sqlite      scrubbed (`scrub`), also of the names of processes and threads
    run/<variant>/trace.json        scrubbed (`scrub.kineto`), not compressed
    run/<variant>/stages.json       its ranges
    run/<variant>/again_1/...       the same of a further recording

An .nsys-rep is never copied: it cannot be scrubbed. Of a program of the user's own only its name is kept, since nobody
here knows which of its arguments are secrets.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..content import file_name
from ..documents import looks_like_json
from ..errors import InputError
from ..nsys.source import SQLITE_MAGIC
from ..run import MANIFEST, Manifest, Recording, Run, Variant, again_folder, from_json, to_json, write_json
from ..stages_file import STAGES_SCHEMA, read_stages
from ..unpack import decompressed, head_of
from .kineto import scrub_kineto
from .nsys import scrub_sqlite

FOREIGN: Final = ("command", "pair")
"""Manifest sources whose commands are the user's own."""

REMOVED: Final = "(removed)"

_COMMANDS: Final = ("command", "command_line")
_FOLDERS: Final = re.compile(r"[^\s=,'\"]*[/\\]")
_ABSOLUTE: Final = re.compile(r"(?<![\w/.])(?:~|\.{0,2})/[^\s,;:'\")\]]+")
_ADDRESS: Final = re.compile(r"[\w.+-]+@(?!aisp\b)[\w.-]+")
_VARIABLE: Final = re.compile(r"((?:--env-var=|-e=?)?[A-Za-z_]\w*=)(.*)", re.DOTALL)


def scrub_run(run: Run, folder: Path, told: Callable[[str, int], None] | None = None) -> Run:
    """Write the run to give away into `folder`, which must not exist, and answer it.

    `told` is called with the name and length of each trace before it is scrubbed. Raises `InputError` for a trace
    that is missing or cannot be scrubbed, and `OSError` where `folder` has no room.
    """
    folder.mkdir(parents=True)
    known = _known_names()
    foreign = run.manifest.source in FOREIGN
    clean = from_json(Manifest, _clean(to_json(run.manifest), foreign, known), str(run.path))
    variants = [
        _variant(run, own, cleaned, folder / file_name(own.name), told)
        for own, cleaned in zip(run.manifest.variants, clean.variants, strict=True)
    ]
    # A commit is public where its repository is; names of files somebody is working on are not.
    git = {key: value for key, value in clean.git.items() if key != "changed"}
    manifest = replace(clean, variants=variants, git=git)
    write_json(folder / MANIFEST, manifest)
    return Run(folder, manifest)


def clean_document(value: Any) -> Any:
    """`value`, of plain JSON types, without folders, addresses and this machine's user and host in its texts."""
    return _clean(value, False, _known_names())


def _variant(run: Run, own: Variant, clean: Variant, folder: Path, told: Callable[[str, int], None] | None) -> Variant:
    if run.manifest.source in FOREIGN:
        clean = replace(clean, description="a command of the user's own")
    made = [
        _recording(run, one, cleaned, folder / again_folder(number), folder.parent, told)
        for number, (one, cleaned) in enumerate(zip(own.recordings, clean.recordings, strict=True))
    ]
    return replace(clean, recording=made[0], again=made[1:]) if made else clean


def _recording(
    run: Run,
    own: Recording,
    clean: Recording,
    folder: Path,
    top: Path,
    told: Callable[[str, int], None] | None,
) -> Recording:
    folder.mkdir()
    source = run.path / own.trace
    if told is not None and source.is_file():
        told(own.trace, source.stat().st_size)
    trace = _trace(source, folder)
    kinds = None if own.kind_file is None else _stages(run.path / own.kind_file, folder / "stages.json")
    inside = [None if file is None else file.relative_to(top).as_posix() for file in (trace, kinds)]
    return replace(clean, trace=inside[0] or "", kind_file=inside[1])


def _trace(source: Path, folder: Path) -> Path:
    with decompressed(source) as plain:
        head = head_of(plain)
        if head.startswith(SQLITE_MAGIC):
            scrub_sqlite(plain, folder / "trace.sqlite", keep_names=False)
            return folder / "trace.sqlite"
        if looks_like_json(head):
            scrub_kineto(plain, folder / "trace.json")
            return folder / "trace.json"
    raise InputError(
        f"{source} was to be scrubbed for a bundle, but it is neither an nsys .sqlite export nor a torch.profiler JSON; "
        "an .nsys-rep holds the environment and has to be exported first"
    )


def _stages(source: Path, target: Path) -> Path:
    ranges = [
        {"name": name, "kind": fact.kind, "nbytes": fact.nbytes, "tid": tid, "index": index}
        for (tid, name), facts in read_stages(source).ranges.items()
        for index, fact in enumerate(facts)
    ]
    target.write_text(json.dumps({"schema": STAGES_SCHEMA, "ranges": ranges}), encoding="utf-8")
    return target


def _clean(value: Any, foreign: bool, known: re.Pattern[str] | None) -> Any:
    """`value`, of plain JSON types, with every text cleaned, and lists under the keys of commands as command lines."""
    if isinstance(value, str):
        return _text(value, known)
    if isinstance(value, dict):
        return {
            k: _command(v, foreign, known) if k in _COMMANDS else _clean(v, foreign, known) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_clean(v, foreign, known) for v in value]
    return value


def _text(text: str, known: re.Pattern[str] | None) -> str:
    text = _ABSOLUTE.sub(lambda found: found[0].rstrip("/").rpartition("/")[2] or REMOVED, text)
    text = _ADDRESS.sub(REMOVED, text)
    return text if known is None else known.sub(REMOVED, text)


def _command(words: Any, foreign: bool, known: re.Pattern[str] | None) -> list[str]:
    if foreign:
        first, *others = [str(w) for w in words] or [""]
        return [_FOLDERS.sub("", first), *([f"({len(others)} words removed)"] if others else [])]
    return [_word(str(w), known) for w in words]


def _word(word: str, known: re.Pattern[str] | None) -> str:
    """One word of a command of ours: options stay, folders go, and so do values of environment variables."""
    if variable := _VARIABLE.fullmatch(word):
        return f"{variable[1]}{REMOVED}"
    return _text(_FOLDERS.sub("", word), known)


def _known_names() -> re.Pattern[str] | None:
    """This machine's user and host, wherever they stand as words; nobody's if they are too short or too common."""
    found = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    with suppress(OSError, KeyError, ImportError, RuntimeError):  # containers may run as a user without a name
        found |= {getpass.getuser(), Path.home().name}
    names = sorted((n for n in found if len(n) > 3 and n not in ("root", "localhost")), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])") if names else None
