"""`kernels emit --generator llm` on the terminal: every attempt with what became of it, then what is to be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...kernels.llm.result import OUTCOMES, Attempt, Generated
from .console import Column, print_table, say, say_wrapped


def print_prompt(messages: Sequence[Mapping[str, str]]) -> None:
    """The first prompt, as it would be sent."""
    for message in messages:
        say(f"-- {message['role']} --")
        for line in message["content"].split("\n"):
            say(line)
        say()


def print_generated(found: Generated) -> None:
    """Attempts, and why the session ended. Times are those of verified attempts alone."""
    columns = [Column("attempt", "left"), Column("outcome", "left"), Column("us", "right"), Column("of peak", "right")]
    columns.append(Column("why", "left", wrap=True))
    print_table(columns, [_row(one) for one in found.attempts])
    used = f"{found.rounds} rounds, {found.tokens:,} tokens in all, {found.seconds:.0f} s"
    say_wrapped(f"{found.task}, {found.dtype}, {found.arch}, by {found.model}: {found.ended} ({used}).")
    template, best = found.attempts[0], found.best
    if best is None:
        say_wrapped("Nothing is verified, so there is no best.")
    elif best.number == 0:
        say_wrapped("best, verified: the template; no attempt was faster.")
    else:
        gain = (
            ""
            if template.score_ns == float("inf")
            else f", {template.score_ns / best.score_ns:.2f}x as fast as the template"
        )
        say_wrapped(f"best, verified: attempt {best.number}{gain}.")


def _row(one: Attempt) -> tuple[object, ...]:
    verified = one.outcome == "verified"
    times = tuple("-" if time is None else f"{time / 1e3:.2f}" for time in one.times_ns.values()) if verified else None
    shares = (
        tuple("-" if share is None else f"{100 * share:.0f} %" for share in one.shares.values()) if verified else None
    )
    name = "template" if one.number == 0 else str(one.number)
    outcome = "not measured" if one.number == 0 and one.outcome == "waiting" else one.outcome
    why = "" if verified or outcome == "not measured" else one.why or OUTCOMES[one.outcome]
    return name, outcome, times or None, shares or None, why
