"""A pair of the user's own commands as evidence: its rounds, and how far anybody knows that both do the same work.

Nobody but the commands themselves can say what they did. Where every process states its work (`capture.answer.state_work`),
statements that differ are an objection; where one is silent, times are still judged, and every verdict says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...traces.pair_timing import ITERATIONS, STEPS
from ...traces.run import CommandAnswer, Manifest, Statement

PAIR = "pair"
"""Manifest source of a pair of the user's own commands."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What the commands say of their work. `work` is what all of them state, null where one is silent or they differ.

    `conflict` and `doubt` are sentences: why no verdict may be given, and what a verdict does not know; at most one of them.
    """

    work: Statement | None
    conflict: str
    doubt: str

    @property
    def sentence(self) -> str:
        """What is known of the work of all commands."""
        return self.doubt or self.conflict or "the commands state the same work and output"


def command_times(manifest: Manifest) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """(round, variant, nanoseconds) of each untraced process, as they ran: its iterations or steps, or its whole time."""
    for one in manifest.commands:
        whole = manifest.timed not in (ITERATIONS, STEPS)
        yield one.index, one.variant, (one.wall_ns,) if whole else one.answer.times_ns(manifest.timed)


def stated(manifest: Manifest) -> Stated:
    """What all processes of the pair, recorded ones included, say of their work; the first conflict is named."""
    seen: tuple[str, Statement] | None = None
    silent: list[str] = []
    for where, name, answer in _answers(manifest):
        if not answer.stated and name not in silent:
            silent.append(name)
        for statement in answer.stated:
            if seen is None:
                seen = (where, statement)
            for field in ("items", "unit", "output"):
                one, other = getattr(seen[1], field), getattr(statement, field)
                if one != other:
                    return Stated(None, f"stated {field} differs: {one!r} by {seen[0]} and {other!r} by {where}", "")
    if seen is None:
        return Stated(None, "", "the commands state no work and no output, so it is unverified that they do the same")
    if silent:
        names = " and ".join(silent)
        return Stated(
            None, "", f"not every process of {names} states its work, so it is unverified that they do the same"
        )
    work = seen[1]
    if work.output is None:
        return Stated(work, "", "the commands state the same work, but no output to compare")
    return Stated(work, "", "")


def _answers(manifest: Manifest) -> Iterator[tuple[str, str, CommandAnswer]]:
    for one in manifest.commands:
        yield f"{one.variant} in round {one.index}", one.variant, one.answer
    for variant in manifest.variants:
        if variant.recording is not None and variant.recording.answer is not None:
            yield f"{variant.name} in the recording", variant.name, variant.recording.answer
