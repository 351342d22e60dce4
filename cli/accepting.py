"""Accepting bounds from runs: what is shown, what is asked, and the one place that has an expectation file written.

runs -> evidence;  folder -> present claims;  both -> proposal -> shown -> refused, or confirmed and written
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..expectations.accepting.accept import Proposal, propose
from ..expectations.accepting.occasions import Occasion, exit_code
from ..expectations.claims.diff import Difference
from ..expectations.claims.load import file_name, folder_to_write, load_file, load_folder
from ..expectations.claims.wanted import load_wanted
from ..expectations.claims.write import file_text, output, write_file
from ..expectations.judging.evidence import gather
from ..expectations.model import ExpectationFile
from ..traces.documents import EXPECTATIONS, read_text
from ..traces.errors import UsageError
from ..traces.run import Run
from . import evidence as run_evidence
from .console import Column, say, say_lines, say_wrapped, table, warn

CHOSEN = {"option": "--expectations", "project": "the current project's", "package": "those of aisp-trace"}


@dataclass(frozen=True, slots=True)
class Answers:
    """What the caller said beforehand: `yes` instead of being asked, and `only` these claims (empty: all)."""

    yes: bool = False
    allow_loosen: bool = False
    only: Collection[str] = ()


def accept(runs: Sequence[Run], asked: Path | None, answers: Answers) -> int:
    """Show what accepting `runs` would write, and write it where nothing forbids it and a person (or `yes`) agrees.

    `asked` is a folder, or one file; null: the current project's folder, else the package's. Returns the exit code: 0
    written, or nothing to write; 1 an expectation was missed; 3 the evidence carries no bound; 2 any other refusal.
    """
    occasions = [Occasion(gather(run, run_evidence.analyses_of_run(run)), run.manifest) for run in runs]
    if not occasions:
        raise UsageError("no run was named to accept")
    key = occasions[0].evidence.hardware_key
    path, chosen, target, others = _target(asked, key)
    output(path).check()
    before = read_text(path, EXPECTATIONS) if path.is_file() else None
    wanted = load_wanted(path.parent)
    proposal = propose(occasions, target, others, wanted, only=answers.only, allow_loosen=answers.allow_loosen)
    for occasion in occasions:
        say(f"run           {occasion.evidence.run_id} on {occasion.evidence.hardware_key}")
    say(f"expectations  {path} ({CHOSEN[chosen]})")
    _show(proposal, occasions[0].evidence.workload)
    if proposal.refusals:
        return exit_code(proposal.refusals)
    if not proposal.changes:
        say()
        say("Nothing changes: no bound differs from what these runs say.")
        return 0
    if not answers.yes:
        _confirm(path)
    write_file(path, file_text(before, target.hardware_key, proposal.claims), before)
    say(f"Written to {path}. A bound proves nothing about the run it comes from: judge a later one.")
    return 0


def _target(asked: Path | None, key: str) -> tuple[Path, str, ExpectationFile, tuple[ExpectationFile, ...]]:
    """The file to write with what it holds, and the other files of its folder."""
    if asked is not None and asked.is_file():
        target = load_file(asked)
        found = load_folder(asked.parent, "option")
        return asked, "option", target, tuple(f for f in found.files if f.hardware_key != target.hardware_key)
    folder, chosen = folder_to_write(asked, Path.cwd())
    found = load_folder(folder, chosen)
    target = next((f for f in found.files if f.hardware_key == key), ExpectationFile(key, ()))
    return folder / file_name(key), chosen, target, tuple(f for f in found.files if f.hardware_key != key)


def _show(proposal: Proposal, workload: str) -> None:
    if proposal.changes:
        say("")
        say_lines(differences_table(proposal.changes, workload))
    if proposal.notes or proposal.refusals:
        say("")
    for note in proposal.notes:
        say_wrapped(f"note: {note}.")
    for refusal in proposal.refusals:
        say_wrapped(f"refused: {refusal.text}.")
    if proposal.refusals:
        say("Nothing was written.")


def differences_table(changes: Sequence[Difference], workload: str | None) -> str:
    """One line a bound: the claim (without the `workload` it starts with), what it bounds, old, new, and the direction."""
    columns = [
        Column("claim", "left", shrink=True),
        Column("bounds", "left", shrink=True),
        Column("old", shrink=True),
        Column("new", shrink=True),
        Column("change", "left"),
    ]
    rows = [(d.claim.removeprefix(f"{workload}."), d.part, d.old, d.new, d.direction) for d in changes]
    return table(columns, rows)


def _confirm(path: Path) -> None:
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise UsageError(
            "nobody is there to confirm the change, nothing was written; look at it, then repeat with --yes"
        )
    warn(f"write this to {path}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was written")
