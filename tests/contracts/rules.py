"""A snapshot against the code of today: each difference with its consequence.

A snapshot is ``{group: {entry: fact}}``. A group is a command, a schema, a table, a function; an entry one of its options,
keys, columns, parameters. Entries may be added, unless an old caller or an old document would then lack something required.
Whatever goes missing, or changes its fact, breaks those who rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Snapshot = Mapping[str, Mapping[str, str]]

REQUIRED: Final = ", required"
"""Ends the fact of an entry that a caller must give, or that a document must hold to be read."""

NEW: Final = (
    "is new: allowed. Name it in the first section of CHANGELOG.md, then `python -P scripts/contracts.py --write`"
)

BROKEN: Final[Mapping[str, str]] = {
    "commands": "Scripts that use it break: keep it, deprecated (docs/contracts.md), until the next minor version",
    "answers": "Programs that read it break: keep it, or print a document of the next schema number",
    "documents": "Files that were written, or programs that write them, break: keep it, or raise the schema number and go on"
    " reading the old one",
    "workload_files": "Workload files of users break: keep it, deprecated, until the next minor version",
    "tables": "Notebooks that read the exported tables break: keep the column, or raise the number of aisp-trace/export",
    "words": "Programs that look for it find nothing: keep the word; a better one is a new one beside it",
    "exit_codes": "Pipelines that branch on it break: keep it; exit codes change only with a major version",
}
"""By snapshot: who is hurt, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `word` is what a changelog line about it has to name."""

    breaks: bool
    word: str
    sentence: str


def changes(name: str, snapshot: Snapshot, found: Snapshot) -> list[Change]:
    """How `found` differs from the snapshot called `name` (a key of `BROKEN`); none if they are equal."""
    out: list[Change] = []
    for group in snapshot:
        if group not in found and not _succeeded(group, found):
            out.append(_broken(name, group, f"{group} went missing", _last(group)))
    for group, entries in found.items():
        if group not in snapshot:
            out.append(Change(False, _last(group), f"{name}.json: {group} {NEW}"))
        else:
            out += _within(name, group, snapshot[group], entries)
    return out


def _within(name: str, group: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    gone = [entry for entry in before if entry not in after]
    for entry, fact in before.items():
        if _inside(entry, gone):
            continue  # said with what it lay in
        if entry not in after:
            yield _broken(name, group, f"{entry} ({fact}) went missing", _last(entry, group))
        elif after[entry] != fact and not _relaxed(fact, after[entry]):
            yield _broken(name, group, f"{entry} was {fact} and is {after[entry]}", _last(entry, group))
        elif after[entry] != fact:
            yield Change(False, _last(entry, group), f"{name}.json, {group}: {entry} is required no more: {NEW}")
    added = {entry: fact for entry, fact in after.items() if entry not in before}
    for entry, fact in added.items():
        if _inside(entry, added):
            continue  # said with what it lies in
        if fact.endswith(REQUIRED):
            yield _broken(name, group, f"{entry} ({fact}) is new, and nobody gives it yet", _last(entry, group))
        else:
            yield Change(False, _last(entry, group), f"{name}.json, {group}: {entry} ({fact}) {NEW}")


def _inside(entry: str, others: Iterable[str]) -> bool:
    """Whether `entry` is a key of one of the `others`, or of an item of it."""
    return any(entry.startswith((f"{other}.", f"{other}[")) for other in others)


def _broken(name: str, group: str, what: str, word: str) -> Change:
    where = "" if what.startswith(group) else f", {group}"
    remedy = BROKEN[name] + (f" ({_next(group)})" if re.fullmatch(r"aisp-trace/.*/\d+", group) else "")
    return Change(True, word, f"{name}.json{where}: {what}. {remedy}; say so in CHANGELOG.md")


def _relaxed(before: str, after: str) -> bool:
    """Whether what was required may now be left out."""
    return before.endswith(REQUIRED) and after.split(", ")[0] == before.split(", ")[0]


def _succeeded(group: str, found: Snapshot) -> bool:
    """Whether a schema of the same name and a higher number took the place of `group`."""
    return _next(group) in found


def _next(group: str) -> str:
    head, _, number = group.rpartition("/")
    return f"{head}/{int(number) + 1}" if head and number.isdigit() else ""


def _last(entry: str, group: str = "") -> str:
    """The last word of a path: ``busy_ns`` of ``traces[].devices[].busy_ns``; a schema, option or table as it is; of what a
    function gives, ``()``, the function.
    """
    entry = entry if re.search(r"\w", entry) else group
    return entry if entry.startswith(("-", "aisp-trace")) or "/" in entry else re.findall(r"[\w-]+", entry)[-1]
