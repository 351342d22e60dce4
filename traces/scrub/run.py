"""A copy of a run folder to give away: its manifest and traces, without paths, users, hosts, environment or logs.

    run/manifest.json               commands without folders and values of variables; texts by the policy of `personal`
    run/<variant>/trace.sqlite      scrubbed (`scrub`), also of the names of processes and threads
    run/<variant>/trace.json        scrubbed (`scrub.kineto`), not compressed
    run/<variant>/stages.json       its ranges
    run/<variant>/again_1/...       the same of a further recording

An .nsys-rep is never copied: it cannot be scrubbed. Of a program of the user's own only its name is kept, since nobody
here knows which of its arguments are secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ..content import file_name
from ..documents import looks_like_json
from ..errors import InputError
from ..nsys.source import SQLITE_MAGIC, Source
from ..run import MANIFEST, Manifest, Recording, Run, Variant, again_folder, from_json, to_json, write_json
from ..stages_file import STAGES_SCHEMA, read_stages
from ..unpack import decompressed, head_of
from ..unread import unread_kind
from .nsys import learn_export, scrub_sqlite
from .personal import Policy

FOREIGN: Final = ("command", "pair")
"""Manifest sources whose commands are the user's own."""

REMOVED: Final = "(removed)"

_COMMANDS: Final = ("command", "command_line")
_VERSIONS: Final = ("packages", "recorder_version", "driver", "cuda")
_FOLDERS: Final = re.compile(r"[^\s=,'\"]*[/\\]")
_SECRET_OPTION: Final = re.compile(
    r"--?[\w-]*(?:token|secret|passw(?:or)?d|passwd|pwd|passphrase|key|credentials?)", re.IGNORECASE
)
"""An option whose value is the next word of a command line."""
_VARIABLE: Final = re.compile(r"((?:--env-var=|-e=?)?[A-Za-z_]\w*=)(.*)", re.DOTALL)


def scrub_run(
    run: Run, folder: Path, told: Callable[[str, int], None] | None = None, policy: Policy | None = None
) -> Run:
    """Write the run to give away into `folder`, which must not exist, and answer it.

    One `policy`, by default a new one of this machine, replaces what is personal in all of its files.

    `told` is called with the name and length of each trace before it is scrubbed. Raises `InputError` for a trace
    that is missing or cannot be scrubbed, and `OSError` where `folder` has no room.
    """
    folder.mkdir(parents=True)
    policy = Policy.of_this_machine() if policy is None else policy
    foreign = run.manifest.source in FOREIGN
    document = to_json(run.manifest)
    for text in _texts(document):  # all of them before the first is cleaned
        policy.learn(text)
    clean = from_json(Manifest, _clean(document, foreign, policy), str(run.path))
    variants = [
        _variant(run, own, cleaned, folder / file_name(own.name), told, policy)
        for own, cleaned in zip(run.manifest.variants, clean.variants, strict=True)
    ]
    # A commit is public where its repository is; names of files somebody is working on are not.
    git = {key: value for key, value in clean.git.items() if key != "changed"}
    manifest = replace(clean, variants=variants, git=git)
    write_json(folder / MANIFEST, manifest)
    return Run(folder, manifest)


def clean_document(value: Any) -> Any:
    """`value`, of plain JSON types, with its texts as the policy of `personal` leaves them."""
    return _clean(value, False, Policy.of_this_machine())


def _variant(
    run: Run, own: Variant, clean: Variant, folder: Path, told: Callable[[str, int], None] | None, policy: Policy
) -> Variant:
    if run.manifest.source in FOREIGN:
        clean = replace(clean, description="a command of the user's own")
    made = [
        _recording(run, one, cleaned, folder / again_folder(number), folder.parent, told, policy)
        for number, (one, cleaned) in enumerate(zip(own.recordings, clean.recordings, strict=True))
    ]
    if program := next((c.command for c in run.manifest.commands if c.variant == own.name), None):
        made = [
            replace(new, command=_of_pair(old.command, program, policy))
            for new, old in zip(made, own.recordings, strict=True)
        ]
    return replace(clean, recording=made[0], again=made[1:]) if made else clean


def _recording(
    run: Run,
    own: Recording,
    clean: Recording,
    folder: Path,
    top: Path,
    told: Callable[[str, int], None] | None,
    policy: Policy,
) -> Recording:
    folder.mkdir()
    source = run.path / own.trace
    if told is not None and source.is_file():
        told(own.trace, source.stat().st_size)
    trace = scrub_trace(source, folder, policy)
    kinds = None if own.kind_file is None else scrub_stages(run.path / own.kind_file, folder / "stages.json", policy)
    inside = [None if file is None else file.relative_to(top).as_posix() for file in (trace, kinds)]
    return replace(clean, trace=inside[0] or "", kind_file=inside[1])


def scrub_trace(source: Path, folder: Path, policy: Policy, stem: str = "trace", *, keep_names: bool = False) -> Path:
    """Write a scrubbed copy of the trace `source` into `folder`, called `stem`, and answer it.

    `keep_names`: with the names of an nsys export's processes and threads, by the policy. Raises `InputError` for a trace that
    cannot be scrubbed.
    """
    with decompressed(source) as plain:
        target = folder / (stem + ending_of(plain, source))
        scrub_plain(plain, source, target, policy, keep_names=keep_names)
    return target


def learn_trace(source: Path, policy: Policy) -> None:
    """Let `policy` know the users, hosts and secrets that the trace `source` names, where several are copied by it: one may name
    the user of another. Raises as `scrub_trace`."""
    with decompressed(source) as plain:
        if ending_of(plain, source) == ".sqlite":
            with Source(plain) as export:
                learn_export(export, policy)
            return
        from .kineto import learn_kineto  # as below

        learn_kineto(plain, policy)


def ending_of(plain: Path, source: Path) -> str:
    """``.sqlite`` or ``.json``: what a scrubbed copy of `plain` is, of `source`. Raises `InputError` if it is neither an
    nsys export nor a torch.profiler trace."""
    head = head_of(plain)
    if head.startswith(SQLITE_MAGIC):
        return ".sqlite"
    if looks_like_json(head):
        return ".json"
    if (unread := unread_kind(plain, source)) is not None:
        raise InputError(f"{source} cannot be scrubbed: it is {unread[0]}; {unread[1]}")
    raise InputError(
        f"{source} cannot be scrubbed: it is neither an nsys .sqlite export nor a torch.profiler JSON; "
        "an .nsys-rep holds the environment and has to be exported first"
    )


def scrub_plain(plain: Path, source: Path, target: Path, policy: Policy, *, keep_names: bool) -> None:
    """Write a scrubbed copy of `plain`, to which `source` unfolds, to `target`. Raises as `ending_of`."""
    if ending_of(plain, source) == ".sqlite":
        scrub_sqlite(plain, target, keep_names=keep_names, policy=policy)
        return
    from .kineto import scrub_kineto  # needs libraries that a GPU host may lack; a recording of nsys does not

    scrub_kineto(plain, target, policy)


def scrub_stages(source: Path, target: Path, policy: Policy) -> Path:
    """Write the side file `source` of torch's recorder to `target`, with its names as those of the trace are."""
    ranges = [
        {"name": policy.name(name), "kind": fact.kind, "nbytes": fact.nbytes, "tid": tid, "index": index}
        for (tid, name), facts in read_stages(source).ranges.items()
        for index, fact in enumerate(facts)
    ]
    target.write_text(json.dumps({"schema": STAGES_SCHEMA, "ranges": ranges}), encoding="utf-8")
    return target


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _texts(inner)


def _clean(value: Any, foreign: bool, policy: Policy, versions: bool = False) -> Any:
    """`value`, of plain JSON types, with every text cleaned, and lists under the keys of commands as command lines."""
    if isinstance(value, str):
        return policy.text(value, versions=versions)
    if isinstance(value, dict):
        return {
            k: _command(v, foreign, policy)
            if k in _COMMANDS
            else _clean(v, foreign, policy, versions or k in _VERSIONS)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_clean(v, foreign, policy, versions) for v in value]
    return value


def _command(words: Any, foreign: bool, policy: Policy) -> list[str]:
    if foreign:
        first, *others = [str(w) for w in words] or [""]
        kept = policy.text(_FOLDERS.sub("", first))
        return [kept, *([f"({len(others)} words removed)"] if others else [])]
    cleaned: list[str] = []
    for before, word in pairwise(["", *map(str, words)]):
        is_value = _SECRET_OPTION.fullmatch(before) is not None and not word.startswith("-")
        cleaned.append(REMOVED if is_value else _word(word, policy))
    return cleaned


def _of_pair(command: Sequence[str], program: Sequence[str], policy: Policy) -> list[str]:
    """`command` of a recorder and then the `program` of a pair, each as a command of the user's own.

    So the copy still says that what was recorded is what was timed.
    """
    recorder = command[: len(command) - len(program)]
    if list(command[len(recorder) :]) != list(program):
        return _command(command, True, policy)
    return [*(_command(recorder, True, policy) if recorder else []), *_command(program, True, policy)]


def _word(word: str, policy: Policy) -> str:
    """One word of a command of ours: options stay, folders go, and so do values of environment variables."""
    if variable := _VARIABLE.fullmatch(word):
        return f"{variable[1]}{REMOVED}"
    return policy.text(word if "://" in word else _FOLDERS.sub("", word))
