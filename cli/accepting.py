"""The way of `accept` and of `check --update-expectations`: shown, then refused, or confirmed and written."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from ..report.terminal.console import say, warn
from ..traces.errors import UsageError
from ..traces.run import Run


def accept(
    runs: Sequence[Run], asked: Path | None, *, yes: bool, allow_loosen: bool, only: Collection[str] = ()
) -> int:
    """Show what accepting `runs` would write, and write it where nothing forbids it and a person (or `yes`) agrees.

    Returns the exit code: 0 written, or nothing to write; 1 an expectation was missed; 3 the evidence carries no bound; 2 any
    other refusal.
    """
    from ..expectations.accepting.occasions import UNDECIDED, exit_code
    from ..expectations.accepting.run import prepare
    from ..report.terminal.expectations import print_acceptance

    found = prepare(runs, asked, only=only, allow_loosen=allow_loosen)
    print_acceptance(found)
    if found.proposal.refusals:
        return exit_code(found.proposal.refusals)
    if not found.proposal.changes:
        say()
        workload = found.occasions[0].evidence.workload
        if not any(claim.workload == workload for claim in found.proposal.claims):
            say("Nothing was written: these runs carry no bound.")
            return UNDECIDED
        say("Nothing changes: no bound differs from what these runs say.")
        return 0
    if not yes:
        _confirm(found.place.path)
    found.write()
    say(f"Written to {found.place.path}. A bound proves nothing about the run it comes from: judge a later one.")
    return 0


def _confirm(path: Path) -> None:
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise UsageError(
            "there is no terminal to confirm on, so nothing was written; review the change, then repeat with --yes"
        )
    warn(f"write this to {path}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was written")
