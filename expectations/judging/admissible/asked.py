"""A run as the rows of the table see it: its processes by name, its believed traces, and what a row finds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....analyze.result import Analysis
from ....traces.run import GpuState, Manifest, ProcessResult, Variant, VariantResult
from ..evidence import STEP, Evidence, Recorded, VariantEvidence

NAMED, OBJECTION, INVALID = "named", "objection", "invalid"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one row found: a sentence without its full stop, how grave it is, and the variants it is about (empty: all).

    `times`: it is about claims on times alone.
    """

    grade: str
    text: str
    variants: tuple[str, ...] = ()
    times: bool = False


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a run. `index` is its round, null for a recording; `times_ns` are each variant's iterations."""

    where: str
    index: int | None
    variants: tuple[str, ...]
    command: tuple[str, ...]
    exit_code: int
    wall_ns: int
    started_utc: str
    sources: tuple[str | None, str | None]
    times_ns: Mapping[str, Sequence[int]]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as the rows see it."""

    evidence: Evidence
    manifest: Manifest
    processes: tuple[Process, ...]

    @property
    def contradicts(self) -> str:
        """The grade of a contradiction that a pause explains: between its parts a run may have changed machine or clock."""
        return OBJECTION if self.manifest.resumed_utc else INVALID

    @property
    def untraced(self) -> tuple[Process, ...]:
        return tuple(p for p in self.processes if p.index is not None)

    def gpu_states(self) -> Iterator[tuple[str, tuple[int, bool], Sequence[GpuState]]]:
        """(variant and process, span, its GPUs' states) of each untraced process, and of each energy pass.

        A span is its nanoseconds, and whether the states are of just these: those of a whole process are of a little more.
        """
        for made in self.manifest.rounds:
            for v in made.result.variants:
                span = (v.timed_ns[1] - v.timed_ns[0], True) if len(v.timed_ns) == 2 else (made.wall_ns, False)
                yield f"{v.name} in round {made.index}", span, made.gpu_state.get(v.name, ())
                again = made.repeated_gpu_state.get(v.name, ())
                if v.repeated_ns or again:
                    lasted = v.repeated_ns[1] - v.repeated_ns[0] if len(v.repeated_ns) == 2 else 0
                    yield f"the energy pass of {v.name} in round {made.index}", (lasted, True), again
        for one in self.manifest.commands:
            yield f"{one.variant} in round {one.index}", (one.wall_ns, False), one.gpu_state.get(one.variant, ())

    def analysed(self) -> Iterator[tuple[VariantEvidence, Recorded, Analysis, Sequence[int]]]:
        """Each recording whose trace is believed, its analysis, and the durations of the trace's iterations.

        Where steps are timed, they last from one iteration's end to the next one's, as in the rounds.
        """
        for variant in self.evidence.variants.values():
            for made in variant.recordings:
                if made.analysis is not None:
                    table = made.analysis.iterations
                    begins = table["end_ns"].shift(1) if self.evidence.timed == STEP else table["start_ns"]
                    yield variant, made, made.analysis, (table["end_ns"] - begins).drop_nulls().to_list()


def processes_of(manifest: Manifest) -> Iterator[Process]:
    shared = {made.index for made in manifest.rounds if len(made.result.variants) > 1}
    for made in manifest.rounds:
        times = _times(made.result.variants)
        where = f"round {made.index}" if made.index in shared else f"{', '.join(times)} in round {made.index}"
        yield _process(where, made.index, tuple(v.name for v in made.result.variants), made, times, made.result.facts)
    for one in manifest.commands:
        where = f"{one.variant} in round {one.index}"
        yield _process(where, one.index, (one.variant,), one, {one.variant: one.answer.times_ns(manifest.timed)}, {})
    for variant in manifest.variants:
        for number, recording in enumerate(variant.recordings):
            result, answer = recording.result, recording.answer
            times = (
                _times(result.variants) if result else {variant.name: answer.times_ns(manifest.timed) if answer else ()}
            )
            facts = result.facts if result else {}
            yield _process(recording_of(variant, number), None, (variant.name,), recording, times, facts)


def recording_of(variant: Variant, number: int) -> str:
    return f"recording {number + 1} of {variant.name}" if variant.again else f"the recording of {variant.name}"


def _process(
    where: str,
    index: int | None,
    variants: tuple[str, ...],
    made: Any,
    times: Mapping[str, Sequence[int]],
    facts: Mapping[str, Any],
) -> Process:
    started = "" if index is None else str(made.started_utc)
    sources = (made.commit, made.tree)
    return Process(
        where, index, variants, tuple(made.command), made.exit_code, made.wall_ns, started, sources, times, facts
    )


def _times(results: Sequence[VariantResult]) -> dict[str, Sequence[int]]:
    return {result.name: result.iterations_ns for result in results}


def results_of(manifest: Manifest) -> Iterator[tuple[str, ProcessResult]]:
    """What each process of a workload answered, with its name."""
    yield from ((f"round {made.index}", made.result) for made in manifest.rounds)
    for variant in manifest.variants:
        for number, recording in enumerate(variant.recordings):
            if recording.result is not None:
                yield recording_of(variant, number), recording.result


def unequal(what: str, values: Iterable[tuple[str, Any]]) -> Iterator[Finding]:
    """An objection with the first known value and the first one that differs from it; `values` are (process, value)."""
    known = [(where, value) for where, value in values if value is not None]
    for where, value in known[1:]:
        if value != known[0][1]:
            one, other = str(known[0][1])[:80], str(value)[:80]
            yield Finding(OBJECTION, f"{what} is {one} in {known[0][0]} and {other} in {where}")
            return


def first_of_each(row: Callable[[Asked], Iterator[Finding]]) -> Callable[[Asked], Iterator[Finding]]:
    """`row` with one finding a variant: its recordings are often wrong in the same way."""

    def found(asked: Asked) -> Iterator[Finding]:
        return iter({finding.variants: finding for finding in reversed(list(row(asked)))}.values())

    return found
