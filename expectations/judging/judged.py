"""From a run to its verdicts, for every command that shows them, so that all of them show the same.

run -> traces -> analyses -> evidence, and folder -> expectations;  both -> verdicts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Final

from ...analyze.attribution.window import STEADY
from ...analyze.calibrated import calibration_for
from ...analyze.ranks.of_trace import alone_row
from ...analyze.result import Analysis
from ...analyze.sources import Asked, Source
from ...analyze.words import joules
from ...traces.calibration import Calibration
from ...traces.content import one_line
from ...traces.figures import significant
from ...traces.run import OPTIMIZED, Run
from ...traces.shown import Shown
from ..claims.load import load_expectations
from ..deciding import is_wide
from ..model import ExpectationFile, Expectations
from .energy import drawn, energy_spans, gain_in_cycles, untold
from .evidence import COMMAND, STEP, WHOLE, Evidence, RoundTimes, gather
from .judge import judge
from .kept import contradictions
from .physics import physics_notes
from .predictions import Measured, Outcome, outcome, predictions_of
from .validity import beforehand, byte_checks
from .verdict import Verdict, counts, headline


@dataclass(frozen=True, slots=True)
class Judged(Shown):
    """The verdicts on a run, what they were judged by and on, and what a reader should know beside them."""

    def __repr__(self) -> str:
        counted = ", ".join(f"{n} {status}" for status, n in counts(self.verdicts).items() if n)
        return f"<Judged {one_line(self.evidence.run_id[:80])}: {counted or 'no claims'}>"

    expectations: Expectations
    evidence: Evidence
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    predictions: tuple[Outcome, ...] = ()


def analyses_of_run(run: Run, calibrations: Sequence[Path] | None = None) -> dict[str, Analysis]:
    """The analysis of each recorded variant of `run`, over its measured window, by the variant's name and in order.

    Peaks come from the folders `calibrations`, or those that apply. Empty for a run that recorded nothing. Raises `InputError`
    for a trace that cannot be read.
    """
    opened = Source(run, run.path).open(Asked(both_names=True), calibrations=calibrations)
    return {str(one.variant): one.analysis for one in opened}


COUNTED_WHOLE: Final = (
    "claims about a recording count all of it; the other figures on this page are those of its steady iterations"
)
"""What a page says where `analyses_to_judge` are others than those that it shows, and something was judged."""


def analyses_to_judge(
    run: Run, shown: Mapping[str, Analysis], calibrations: Sequence[Path] | None = None
) -> Mapping[str, Analysis]:
    """`shown`, or, where these are of a pair's steady iterations, those that `analyses_of_run` makes: claims count the whole
    recording of a command."""
    steady = any(one.choices.window == STEADY for one in shown.values())
    return analyses_of_run(run, calibrations) if steady and run.manifest.source != COMMAND else shown


def further_analyses(run: Run, calibrations: Sequence[Path] | None = None) -> dict[str, list[Analysis]]:
    """The analyses of each variant's further recordings, in their order; as `analyses_of_run`."""
    found: dict[str, list[Analysis]] = {}
    for number in range(1, max((len(v.recordings) for v in run.manifest.variants), default=0)):
        for name, analysis in analyses_of_run(run.with_recording(number), calibrations).items():
            found.setdefault(name, []).append(analysis)
    return found


def calibration_of_run(run: Run, folders: Sequence[Path] | None = None) -> Calibration | None:
    """The calibration of the machine that made `run`, from `folders` or those that apply here; null if nobody made one."""
    return calibration_for((run.manifest.hardware.key,), Path.cwd(), folders)


def evidence_of(run: Run) -> Evidence:
    """What `run` offers to a judge, all its recordings analysed; raises as `analyses_of_run` does."""
    return gather(run, analyses_of_run(run), further_analyses(run), calibration_of_run(run), tuple(contradictions(run)))


def judge_run(
    run: Run,
    analyses: Mapping[str, Analysis],
    asked: Path | None = None,
    calibrations: Sequence[Path] | None = None,
    *,
    of_job: bool = False,
) -> Judged:
    """Judge `run` by the expectations in folder `asked`, or those that apply in the current folder; the machine's peaks are
    looked for in the folders `calibrations`, or those that apply. `of_job`: where the run is of one rank of a job, its
    analyses know that job; else they know it is alone."""
    expectations = load_expectations(asked, Path.cwd())
    if run.manifest.rank is not None and run.manifest.ranks is not None and not of_job:
        alone = alone_row(run.manifest.rank, run.manifest.ranks)
        analyses = {name: replace(analysis, job=alone) for name, analysis in analyses.items()}
    evidence = gather(
        run,
        analyses,
        further_analyses(run, calibrations),
        calibration_of_run(run, calibrations),
        tuple(contradictions(run)),
    )
    verdicts = beforehand(judge(expectations.files, evidence), evidence.run_id, run.manifest.digest)
    return Judged(
        expectations,
        evidence,
        verdicts,
        (*on_bounds(verdicts), *_notes(evidence)),
        tuple(_outcomes(expectations.files, evidence)),
    )


def _outcomes(files: Sequence[ExpectationFile], evidence: Evidence) -> Iterator[Outcome]:
    """What came of the predictions of variants whose iterations the rounds timed."""
    if evidence.timed == WHOLE:
        return
    for claim in predictions_of(files, evidence.hardware_key, evidence.workload, evidence.size):
        pair = (claim.baseline, claim.variant)
        ratios = evidence.speedups(*pair)
        if ratios is not None:
            recorded = (evidence.variants[name].analysis for name in pair)
            after = median(mean(r.times_ns[claim.variant]) for r in evidence.both(*pair))
            yield outcome(claim, Measured(median(ratios.mean), after, *recorded))


def headline_of(judged: Judged) -> str:
    """`headline`, with the speedup of the ladder's last rung over its baseline: as judged, else by the mean of the rounds."""
    found = _ends(judged.evidence)
    if found is None:
        return headline(judged.verdicts)
    values = [v.value for v in judged.verdicts if v.part == "speedup" and v.variant == found.last]
    value = next((one for one in values if one is not None), median(found.ratios))
    timed = " of whole processes" if judged.evidence.timed == WHOLE else ""
    return headline(judged.verdicts, f"{significant(value, 3)}x{timed}", found.last)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The baseline and the ladder's last rung, the rounds that timed both, and their ratios by the mean."""

    first: str
    last: str
    rounds: tuple[RoundTimes, ...]
    ratios: tuple[float, ...]


def _ends(evidence: Evidence) -> _Ends | None:
    """Null where there are not two variants, or no round timed both."""
    names = list(evidence.variants)
    if len(names) < 2:
        return None
    first, last = names[0], OPTIMIZED if OPTIMIZED in names else names[-1]
    ratios = evidence.speedups(first, last)
    return None if ratios is None else _Ends(first, last, evidence.both(first, last), ratios.mean)


def on_bounds(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What a speedup's bound lets pass: an interval that ends above it, and most of the speedup, where it is wide."""
    for v in verdicts:
        if v.part != "speedup" or v.status != "met" or v.bound is None or v.value is None or v.high is None:
            continue
        least, most = v.bound.minimum, v.bound.maximum
        if most is not None and v.high > most:
            above = f"the interval of {v.claim} reaches above {significant(most)}"
            yield f"{above}, which fails nothing: only its lower bound can be missed"
        if least is not None and v.source.kind == "measured" and is_wide(least, v.value):
            measured = significant(v.value, 3)
            yield f"the bound of {v.claim} is wide: {measured} was measured, and {significant(least)} would still meet it"


def _notes(evidence: Evidence) -> tuple[str, ...]:
    notes = list(evidence.notes)
    if evidence.stated is not None:
        # A pair: what its times are of, what is known of its work, and what could not be asked at all.
        notes.append(_TIMED[evidence.timed])
        if evidence.timed == WHOLE and any(v.analysis is not None for v in evidence.variants.values()):
            notes.append("how much recording slowed the commands down is not known: they time no iterations")
        notes.append(evidence.stated.sentence)
    notes += [*physics_notes(evidence), *_clocked(evidence)]
    for variant in evidence.variants.values():
        if variant.analysis is None and evidence.outputs_compared:
            notes.append(f"the moved bytes of {variant.name} were not checked: it has no trace that is believed")
        unchecked = (check for check in byte_checks(variant) if check.state == "unavailable")
        notes += [f"moved bytes not checked: {check.reason}" for check in unchecked]
    return tuple(notes)


def _clocked(evidence: Evidence) -> Iterator[str]:
    """What the last rung gained in SM cycles, and the joules of an item on both sides; nothing where no GPU was read."""
    found = _ends(evidence)
    if found is None:
        return
    first, last = found.first, found.last
    if cycles := gain_in_cycles(evidence, first, last):
        yield (
            f"in SM cycles, which exclude the difference of the clocks, {last} is {significant(cycles, 3)}x "
            f"as fast as {first}"
        )
    rows = [row for row in drawn(evidence) if row.variant in (first, last) and row.joules_per_item is not None]
    if rows:
        each = ", ".join(f"{row.variant} {joules(row.joules_per_item)}" for row in rows)
        spans = energy_spans(evidence.timed, {row.variant: row for row in rows})
        yield f"energy for one of the {rows[0].unit}, {spans}: {each}"
    if why := untold(evidence, (first, last)):
        yield why


_TIMED = {
    "iteration": "timed by the iterations that the commands themselves delimit",
    STEP: "timed by training steps, each from the end of one optimizer step to the end of the next",
    WHOLE: "timed by whole processes, start-up included; `with aisp_trace.iteration():` around each iteration times those",
}
