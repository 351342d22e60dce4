"""What a run offers to a judge, as plain values: timings by round, every process's answers, and the analyses.

`gather` reads them off a `Run` and its analyses; it opens nothing. A process that failed is not believed: its timings
and its trace are left out, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ...analyze.result import Analysis
from ...traces.calibration import Calibration
from ...traces.errors import InputError
from ...traces.pair_timing import PROCESSES, STEPS
from ...traces.run import GpuState, Manifest, Output, ProcessResult, Proof, Run, VariantResult, Work
from ..deciding import Sample, ratio_sample, rounds_judged
from .clocks import Repeated, energy_passes, gpu_states
from .commands import PAIR, Stated, command_times, stated

COMMAND = "command"
"""Manifest source of a program of the user's own, whose outputs and work nobody compared."""


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """One untraced round: the order in which the variants ran, each one's iteration times, how each GPU ran meanwhile, and each
    one's energy pass."""

    index: int
    order: tuple[str, ...]
    times_ns: Mapping[str, tuple[int, ...]]
    gpu_state: Mapping[str, tuple[GpuState, ...]] = field(default_factory=dict)
    repeated: Mapping[str, Repeated] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process said of one variant: `where` names the process ("round 3", "the recording").

    `inputs` are workload, device, size and seed, in this order. `proof` is null where the harness gave none.
    """

    where: str
    inputs: tuple[str, str, str, int]
    timer: str
    work: Work
    output: Output
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording: the analysis of its trace, null where that is not believed, and its process's iteration times."""

    analysis: Analysis | None
    traced_ns: tuple[int, ...]


ITERATION: Final = "iteration"
"""What times are of that a workload, or a command, delimits itself."""

WHOLE: Final = "whole process"
"""What times are of that include start-up and end of a process."""

STEP: Final = "step"
"""What times are of that run from the end of one optimizer's step to the end of the next."""


@dataclass(frozen=True, slots=True)
class VariantEvidence:
    """One variant: all its answers, the analysis of its trace, and the iteration times of the traced process.

    These are of its first recording; `again` are the further ones.
    """

    name: str
    answers: tuple[Answer, ...]
    analysis: Analysis | None
    traced_ns: tuple[int, ...]
    again: tuple[Recorded, ...] = ()

    @property
    def recordings(self) -> tuple[Recorded, ...]:
        """All recordings in the order they were made; the first one's analysis is null where there is none."""
        return (Recorded(self.analysis, self.traced_ns), *self.again)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A whole run. `outputs_compared` is false for commands of the user's own: they answer nothing to compare.

    `timed` is what the rounds' times are of: "iteration", `STEP` for commands timed by their optimizers' steps, or `WHOLE`.
    `stated` is what a pair of commands says of its work; null for workloads, whose answers are compared. `looks` are the
    planned numbers of rounds at which to judge (empty: none was written down), `harness` what timed a workload (null: nothing of
    ours did).
    `manifest` is what `admissible` asks; null where there is none to ask. `contradicted` says where a file that a process wrote
    says otherwise (`kept.contradictions`). `calibration` is the machine's; null where nobody made
    one.
    """

    run_id: str
    workload: str
    size: str | None
    hardware_key: str
    outputs_compared: bool
    variants: Mapping[str, VariantEvidence]
    rounds: tuple[RoundTimes, ...]
    notes: tuple[str, ...]
    timed: str = ITERATION
    stated: Stated | None = None
    looks: tuple[int, ...] = ()
    harness: int | None = None
    manifest: Manifest | None = None
    calibration: Calibration | None = None
    contradicted: tuple[str, ...] = ()

    def both(self, first: str, second: str) -> tuple[RoundTimes, ...]:
        """The rounds that timed both variants, as far as they are judged: whoever says their ratio says it of the same rounds."""
        found = tuple(r for r in self.rounds if first in r.times_ns and second in r.times_ns)
        return found[: rounds_judged(len(found), self.looks)]

    def speedups(self, first: str, second: str) -> Sample | None:
        """Times of `first` over those of `second`, by round; null where no round timed `both`."""
        rounds = self.both(first, second)
        return (
            ratio_sample([r.times_ns[first] for r in rounds], [r.times_ns[second] for r in rounds]) if rounds else None
        )


def gather(
    run: Run,
    analyses: Mapping[str, Analysis],
    again: Mapping[str, Sequence[Analysis]] = MappingProxyType({}),
    calibration: Calibration | None = None,
    contradicted: Sequence[str] = (),
) -> Evidence:
    """The evidence of `run`; `analyses` holds the analysed variants by name (those without a trace are absent).

    `again` are the analyses of each variant's further recordings, in their order.

    Raises `InputError` if a process says that an iteration took no time, or none at all was timed in a round.
    """
    manifest = run.manifest
    answers: dict[str, list[Answer]] = {v.name: [] for v in manifest.variants}
    orders: dict[int, list[str]] = {}
    times: dict[int, dict[str, tuple[int, ...]]] = {}
    states, repeated = gpu_states(manifest), energy_passes(manifest)
    notes: list[str] = []
    for made in manifest.rounds:
        if made.exit_code != 0:
            notes.append(f"round {made.index} ended with exit code {made.exit_code} and is not counted")
            continue
        for result in made.result.variants:
            where = f"round {made.index}"
            answers.setdefault(result.name, []).append(_answer(where, made.result, result))
            orders.setdefault(made.index, []).append(result.name)
            # Processes of one index are one round: a workload may give each variant a process of its own.
            times.setdefault(made.index, {})[result.name] = _times(run, where, result)
    for index, name, ns in command_times(manifest):
        orders.setdefault(index, []).append(name)
        times.setdefault(index, {})[name] = _positive(run, f"round {index}", name, ns)
    variants = {}
    for variant in manifest.variants:
        name = variant.name
        found = [analyses.get(name), *again.get(name, ())]
        recorded = []
        for number, recording in enumerate(variant.recordings):
            where = f"recording {number + 1}" if variant.again else "the recording"
            analysis = found[number] if number < len(found) else None
            traced: tuple[int, ...] = ()
            if recording.exit_code != 0:
                notes.append(f"{where} of {name} ended with exit code {recording.exit_code} and is not believed")
                analysis = None
            elif recording.result is not None:
                for result in recording.result.variants:
                    if result.name == name:
                        answers[name].append(_answer(where, recording.result, result))
                        traced = tuple(result.iterations_ns)
            elif recording.answer is not None:
                traced = recording.answer.times_ns(manifest.timed)
            recorded.append(Recorded(analysis, traced))
        first, *others = recorded or [Recorded(found[0], ())]
        variants[name] = VariantEvidence(name, tuple(answers[name]), first.analysis, first.traced_ns, tuple(others))
    rounds = tuple(
        RoundTimes(index, tuple(orders[index]), times[index], states.get(index, {}), repeated.get(index, {}))
        for index in sorted(times)
    )
    ours = manifest.source not in (COMMAND, PAIR)
    return Evidence(
        run_id=manifest.run_id,
        workload=manifest.workload,
        size=manifest.size,
        hardware_key=manifest.hardware.key,
        outputs_compared=ours,
        variants=variants,
        rounds=rounds,
        notes=tuple(notes),
        timed=_timed(manifest),
        stated=stated(manifest) if manifest.source == PAIR else None,
        looks=tuple(manifest.looks),
        harness=manifest.harness if ours else None,
        manifest=manifest,
        calibration=calibration,
        contradicted=tuple(contradicted),
    )


def _timed(manifest: Manifest) -> str:
    """As ``commands.command_times`` times commands: those that do not say what by are whole processes."""
    if manifest.timed is None and manifest.commands:
        return WHOLE
    return {PROCESSES: WHOLE, STEPS: STEP}.get(manifest.timed or "", ITERATION)


def _answer(where: str, process: ProcessResult, result: VariantResult) -> Answer:
    inputs = (process.workload, process.device, process.size, process.seed)
    return Answer(where, inputs, result.timer, result.work, result.output, result.proof)


def _times(run: Run, where: str, result: VariantResult) -> tuple[int, ...]:
    return _positive(run, where, result.name, tuple(result.iterations_ns))


def _positive(run: Run, where: str, name: str, times: tuple[int, ...]) -> tuple[int, ...]:
    if not times or min(times) <= 0:
        found = f"an iteration of {min(times)} ns" if times else "no iteration"
        raise InputError(f"run {run.path}: {where} reports {found} of {name}; capture the run again")
    return times
