"""Expectations as text: each claim with its bounds, reason and source, and what differs between two files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from ...expectations.accepting.run import Acceptance
from ...expectations.claims.asked import Differing
from ...expectations.claims.diff import Difference, differences
from ...expectations.claims.migrate import Migration
from ...expectations.claims.write import Place
from ...expectations.metrics.registry import TAKES_STAGE, Metric
from ...expectations.model import ANY, Claim, Expectations, TimeClaim
from ...traces.figures import milliseconds, significant
from .console import Column, escape, say, say_lines, say_wrapped, table, terminal_width

PLAIN: Final = ("ratio", "fraction", "count")
"""Units that go without saying."""

CHOSEN: Final = {"option": "--expectations", "project": "the current project's", "package": "those of aisp-trace"}
"""Why a folder of expectations was taken."""


def claims_text(found: Expectations) -> str:
    """File by file: each claim with what it bounds, its reason, and its source."""
    parts = [f"expectations  {escape(str(found.folder))} ({CHOSEN[found.chosen]})"]
    for file in found.files:
        if file.claims:
            where = "any machine" if file.hardware_key == ANY else file.hardware_key
            parts += ["", f"{where}, {'1 claim' if len(file.claims) == 1 else f'{len(file.claims)} claims'}"]
            parts += [line for claim in file.claims for line in _claim_lines(claim)]
    return "\n".join(parts)


def migration_text(found: Sequence[Migration], *, written: bool) -> str:
    """A line a file: what was rewritten (or would be), and what that means for its times."""
    lines = []
    for one in found:
        name = escape(str(one.path))
        if one.after is None:
            lines.append(f"{name}: has the present schema already")
            continue
        did = "now has" if written else "would get"
        many = "1 claim" if one.claims == 1 else f"{one.claims} claims"
        times = f", {one.times} of which bound{'s' if one.times == 1 else ''} times by the median" if one.times else ""
        lines.append(f"{name}: {did} schema 2; {many}{times}{'' if written else '; --yes does it'}")
    return "\n".join(lines)


def difference_text(found: Differing) -> str:
    """One table for each machine that differs."""
    parts = []
    for key, changes in found:
        if changes:
            parts.append(f"{'any machine' if key == ANY else key}\n{differences_table(changes, None)}")
            less = sum(d.asks_less for d in changes)
            many = "1 difference" if len(changes) == 1 else f"{len(changes)} differences"
            parts.append(f"{many}, {less} of them ask{'s' if less == 1 else ''} for less.")
    return "\n".join(parts) or "No claim differs."


def print_acceptance(found: Acceptance) -> None:
    """The runs, the file, every bound that would change, and what is refused."""
    for occasion in found.occasions:
        say(f"run           {occasion.evidence.run_id} on {occasion.evidence.hardware_key}")
    say(f"expectations  {found.place.path} ({place_text(found.place)})")
    proposal = found.proposal
    if proposal.changes:
        say("")
        say_lines(differences_table(proposal.changes, found.occasions[0].evidence.workload))
    if proposal.against or proposal.notes or proposal.wide or proposal.refusals:
        say("")
    for text in proposal.against:
        say_wrapped(f"warning: {text}.")
    for text in proposal.wide:
        say_wrapped(f"warning: a wide bound: {text}.")
    for note in proposal.notes:
        say_wrapped(f"note: {note}.")
    for refusal in proposal.refusals:
        say_wrapped(f"refused: {refusal.text}.")
    if proposal.refusals:
        say("Nothing was written.")


def place_text(place: Place) -> str:
    """Why claims are written there."""
    return f"{CHOSEN[place.chosen]}{', a new folder' if place.is_new_folder else ''}"


def print_skeleton(place: Place, claims: Sequence[Claim], workload: str) -> None:
    """What `expectations new` is about to add."""
    say(f"expectations  {place.path} ({place_text(place)})")
    say("")
    say_lines(differences_table(differences((), claims), workload))


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


def print_metrics(metrics: Mapping[str, Metric]) -> None:
    """Each metric: what a claim on it says beside its bound, and what it means."""
    for number, (name, metric) in enumerate(metrics.items()):
        where = "every machine" if metric.machine_independent else "one machine"
        if number:
            say("")
        say(f"{name}  {metric.unit}; stage: {TAKES_STAGE[metric.stage]}; judged on {where}")
        say_wrapped(metric.about, "  ")
        if metric.choices:
            say_wrapped(f"of: {', '.join(metric.choices)}", "  ", "      ")


def _claim_lines(claim: Claim) -> list[str]:
    """The claim, what it bounds, why it should hold, and where the bound comes from; wrapped to the terminal."""
    run = f" {claim.source.run}" if claim.source.run else ""
    lines = [escape(claim.id if claim.size is None else f"{claim.id} [{claim.size}]")]
    lines += [f"  {escape(what)}  {bound}" for what, bound in _bounds(claim)]
    for title, said in (("why", claim.why), (f"{claim.source.kind}{run}", claim.source.text)):
        text = escape(f"{title}: {said}")
        lines += textwrap.wrap(text, terminal_width(), initial_indent="    ", subsequent_indent="    ")
    return lines


def _bounds(claim: Claim) -> list[tuple[str, str]]:
    if not isinstance(claim, TimeClaim):
        unit = "" if claim.unit in PLAIN else f" {claim.unit}"
        return [(claim.quantity(), f"{claim.bound}{unit}")]
    found = [(f"speedup of {claim.variant} over {claim.baseline}, by the {claim.by}", str(claim.ratio))]
    found += [(f"time of {name}", f"<= {milliseconds(limit)}") for name, limit in claim.max_ms.items()]
    return found + [
        (f"items of {name}", f">= {significant(floor)} /s") for name, floor in claim.min_items_per_s.items()
    ]
