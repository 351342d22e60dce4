"""The way of `accept` and of `check --update-expectations`: shown, then refused, or confirmed and written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.terminal.console import ask, say, say_wrapped
from ..traces.errors import UsageError
from ..traces.run import RUNS_DIR, Run
from ..workloads import catalog

if TYPE_CHECKING:  # imported when runs are accepted
    from ..expectations.accepting.run import Acceptance


def accept(
    runs: Sequence[Run],
    asked: Path | None,
    *,
    yes: bool,
    allow_loosen: bool,
    allow_wide: bool = False,
    only_ratio: bool = False,
    only: Collection[str] = (),
) -> int:
    """Show what accepting `runs` would write, and write it where nothing forbids it and a person (or `yes`) agrees.

    A person sees that a bound is wide; where `yes` answers, `allow_wide` must. Returns the exit code: 0 written, or nothing to
    write; that of the gravest refusal (``occasions.exit_code``) otherwise.
    """
    from ..expectations.accepting.occasions import UNDECIDED, can_be_decided, exit_code
    from ..expectations.accepting.run import prepare
    from ..report.terminal.expectations import print_acceptance

    allow_wide = allow_wide or not yes
    found = prepare(runs, asked, only=only, allow_loosen=allow_loosen, allow_wide=allow_wide, only_ratio=only_ratio)
    print_acceptance(found)
    if found.proposal.refusals:
        if can_be_decided(found.proposal.refusals):
            say_wrapped(_by_hand(found, runs))
        return exit_code(found.proposal.refusals)
    if not found.proposal.changes:
        say()
        workload = found.occasions[0].evidence.workload
        if not any(claim.workload == workload for claim in found.proposal.claims):
            say("Nothing was written: these runs carry no bound.")
            say_wrapped(_by_hand(found, runs))
            return UNDECIDED
        say("Nothing changes: no bound differs from what these runs say.")
        return 0
    if not yes:
        _confirm(found.place.path)
    found.write()
    say(f"Written to {found.place.path}. A bound proves nothing about the run it comes from.")
    say("next: commit the file, capture again, then `aisp-trace check` judges that run")
    return 0


def _by_hand(found: Acceptance, runs: Sequence[Run]) -> str:
    """The other road to a bound: somebody decides it, in a claim that is new or there already."""
    workload = found.occasions[0].evidence.workload
    present = [c.id for c in found.place.file.claims if c.type == "time" and c.workload == workload]
    if present:
        names = ", ".join(present)
        return f"Or decide the bound yourself: make {names} in {found.place.path} a claim of your own (docs/change.md)."
    if not (catalog.known(workload) or any(run.path.resolve().parent == Path(RUNS_DIR).resolve() for run in runs)):
        return f"Or decide a bound yourself, in {found.place.path} (docs/change.md)."
    where = f" --expectations {shlex.quote(str(found.place.path.parent))}" if found.place.chosen == "option" else ""
    return f"Or decide a bound yourself: `aisp-trace expectations new {shlex.quote(workload)}{where}`."


def _confirm(path: Path) -> None:
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise UsageError(
            "there is no terminal to confirm on, so nothing was written; review the change, then repeat with --yes"
        )
    ask(f"write this to {path}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was written")
