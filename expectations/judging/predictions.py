"""What came of a prediction: held against the run that made the change, as a whole, stage by stage, and by what no replay knows.

    predicted      estimate / base                    of the run that the prediction was made from
    measured       variant / baseline                 of the rounds of the run that is checked
    error          predicted / measured - 1           both are shares of a baseline, so that machines of two speeds compare

Stages are given in milliseconds of the critical path of an iteration: as predicted, and as in the variant's trace, scaled to its
untraced time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...analyze.comparison.amounts import amounts
from ...analyze.comparison.mechanisms import split
from ...analyze.comparison.sides import account
from ...analyze.comparison.waterfall import layout, waterfall
from ...analyze.result import IDLE, Analysis
from ...analyze.words import percent
from ..claims.prediction import TOLERANCE
from ..model import ANY, ExpectationFile, TimeClaim

WORTH: Final = 0.01
"""Below this part of the variant's time, what a replay does not know is not worth a sentence."""

AS_PREDICTED, MORE, LESS = "as predicted", "more", "less"
"""Whether the change gained what was predicted."""


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """Milliseconds of an iteration's critical path in one stage; `said` is one of the words above."""

    stage: str
    predicted_ms: float
    measured_ms: float
    said: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prediction, held against a run. `predicted` and `measured` are speedups, `error` that of the variant's time.

    `stages` are empty where the variant was not recorded; `unknown` are sentences on what a replay cannot know.
    """

    claim: str
    baseline: str
    variant: str
    run: str
    changes: tuple[str, ...]
    grade: str
    predicted: float
    measured: float
    error: float
    said: str
    stages: tuple[StageOutcome, ...]
    unknown: tuple[str, ...]

    @property
    def gained(self) -> str:
        """``as predicted``, ``more than predicted`` or ``less than predicted``."""
        return self.said if self.said == AS_PREDICTED else f"{self.said} than predicted"


@dataclass(frozen=True, slots=True)
class Measured:
    """A baseline and a variant: how many times as fast the variant is, its untraced time in ns, and both recordings."""

    ratio: float
    variant_ns: float
    base: Analysis | None
    opt: Analysis | None


def predictions_of(
    files: Sequence[ExpectationFile], hardware_key: str, workload: str, size: str | None
) -> list[TimeClaim]:
    """The claims of `files` that a prediction wrote for this machine and work."""
    claims = [c for f in files if f.hardware_key in (ANY, hardware_key) for c in f.claims]
    mine = [c for c in claims if isinstance(c, TimeClaim) and c.predicted is not None]
    return [c for c in mine if (c.workload, c.size) == (workload, size)]


def outcome(claim: TimeClaim, seen: Measured) -> Outcome:
    """What came of the prediction that wrote `claim`, on its two variants."""
    made = claim.predicted
    assert made is not None
    predicted = made.base_ms / made.estimate_ms
    error = seen.ratio / predicted - 1
    within = TOLERANCE[made.grade]
    return Outcome(
        claim=claim.id,
        baseline=claim.baseline,
        variant=claim.variant,
        run=made.run,
        changes=made.changes,
        grade=made.grade,
        predicted=predicted,
        measured=seen.ratio,
        error=error,
        said=_word(error, within),
        stages=tuple(_stages(made.stages_ms, seen, within)),
        unknown=tuple(_unknown(seen)),
    )


def _word(gained: float, within: float) -> str:
    """`gained` is how much more than predicted, as a part of the variant's time."""
    return AS_PREDICTED if abs(gained) <= within else MORE if gained > 0 else LESS


def _stages(predicted: Mapping[str, float], seen: Measured, within: float) -> Iterator[StageOutcome]:
    if seen.opt is None or seen.opt.critical.is_empty() or not predicted:
        return
    total = int(seen.opt.critical["ns"].sum())
    found = dict(seen.opt.critical.group_by("stage").agg(pl.col("ns").sum()).iter_rows())
    whole = seen.variant_ns / 1e6
    for stage in sorted({*predicted, *found}, key=lambda s: (-predicted.get(s, 0.0), s)):
        one, other = predicted.get(stage, 0.0), found.get(stage, 0) / total * whole
        if max(one, other) >= WORTH * whole:
            yield StageOutcome(stage, one, other, _word((one - other) / whole, within))


def _unknown(seen: Measured) -> Iterator[str]:
    """What the mechanism split says of work that a replay keeps as it was."""
    if seen.base is None or seen.opt is None or seen.base.windows.is_empty() or seen.opt.windows.is_empty():
        return
    fall = waterfall(layout([account(seen.base, "baseline"), account(seen.opt, "variant")]), 0, 1)
    why = split(fall, amounts(seen.base), amounts(seen.opt))
    several = len({one.device for one in why.rates}) > 1
    for rate in why.rates:
        if rate.kind != "compute":
            continue
        where = f" of device {rate.device}" if several else ""
        if rate.base_common and abs(rate.opt_common / rate.base_common - 1) > WORTH:
            change = rate.opt_common / rate.base_common - 1
            yield f"the same kernels{where} took {percent(abs(change))} {'longer' if change > 0 else 'less time'}"
        if rate.base_work != rate.opt_work:
            yield f"{rate.opt_work:,} kernels{where} ran instead of {rate.base_work:,}"
    idle = [part.difference for part in why.parts if part.mechanism == IDLE and part.of == "allocator"]
    length = max(int((seen.base.windows["end_ns"] - seen.base.windows["start_ns"]).sum()), 1)
    share = abs(sum(idle)) / fall.weights[0] / length
    if share > WORTH:
        yield f"waits for the allocator are {'longer' if sum(idle) > 0 else 'shorter'} by {percent(share)} of the baseline"
