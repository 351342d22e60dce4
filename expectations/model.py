"""What an expectation is: claims written down before the run that they judge.

    expectations/
        expectations_any.json              claims that hold on every machine: counts and efficiencies
        expectations_<hardware_key>.json   claims of one machine: times and shares of time, too

A claim is one testable statement with the place its bound comes from. Two types exist:

    TimeClaim        `variant` is faster than `baseline` by a factor inside `ratio`, and neither side takes longer than
                     its own absolute bound. A ratio alone misses both sides slowing down together. Optionally, each
                     side gets at least so many items (tokens, samples: its required work) done per second.
    MechanismClaim   one metric of the trace (`metrics.METRICS`) lies inside `bound`: the reason for the speedup.

These are values, and the one model of the files: `claims/parse.py` reads by their annotations and makes the JSON Schema of them,
and `claims/rules.py` says how the parts of a claim fit together. Only files are held to this: `accept` opens bounds to
infinity while it measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from .deciding import bound_words, inside, outside
from .strict import Document, Identifier, Number, Positive, Text, WholeNumber, null_is

SCHEMA: Final = "aisp-trace/expectations/2"
EARLIER: Final = "aisp-trace/expectations/1"
"""Still read. Its times were bounded by the median iteration of harness 1; see `TimeClaim.statistic`."""

ANY: Final = "any"
"""The hardware key of claims that hold on every machine."""

Statistic = Literal["mean", "median"]
"""What a round's timed iterations are summed up by. By the mean, a throughput is total items over total time."""

TimedBy = Literal["iterations", "steps", "processes"]
"""What a run's times are of, as ``traces/pair_timing.py`` calls it: a workload always times iterations."""

SourceKind = Literal["measured", "model", "datasheet", "definition"]
SOURCE_KINDS: Final[tuple[SourceKind, ...]] = get_args(SourceKind)
"""Where a bound may come from: a run, a calculation, a vendor's figure, or the meaning of the words."""


@dataclass(frozen=True, slots=True)
class Bound(Document):
    """The closed interval a value must lie in; null leaves that side open. At least one side is given."""

    minimum: Annotated[Number | None, Field(alias="min")] = None
    maximum: Annotated[Number | None, Field(alias="max")] = None

    def __str__(self) -> str:
        """``>= 1.5``, ``<= 0.02`` or ``1.5 .. 3``."""
        return bound_words(self.minimum, self.maximum)

    def holds(self, low: float, high: float) -> bool:
        """Whether all of ``[low, high]`` lies inside."""
        return inside(low, high, self.minimum, self.maximum)

    def excludes(self, low: float, high: float) -> bool:
        """Whether all of ``[low, high]`` lies outside, on one side."""
        return outside(low, high, self.minimum, self.maximum)

    def margin(self, low: float, high: float) -> float:
        """How far ``[low, high]`` stays from the nearest bound; negative by how much it trespasses."""
        distances = []
        if self.minimum is not None:
            distances.append(low - self.minimum)
        if self.maximum is not None:
            distances.append(self.maximum - high)
        return min(distances)


@dataclass(frozen=True, slots=True)
class Source(Document):
    """Where a bound comes from: its kind, the run it was measured in (kind "measured"), and words.

    `also` are earlier runs that the bound was measured in, too.
    """

    kind: SourceKind
    run: Annotated[Text | None, Field(default=None)]  # of files alone: code says it
    text: Text
    also: Annotated[tuple[Text, ...], null_is((), tuple[Text, ...])] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Every run the bound was measured in: none of them is judged by it."""
        return (*self.also, *([self.run] if self.run is not None else []))


@dataclass(frozen=True, slots=True)
class RequiredWork(Document):
    """What one timed unit had to do when a bound was measured; null is what nobody stated, as commands of the user's own."""

    items: WholeNumber
    unit: Text
    flops: WholeNumber | None = None
    input_bytes: WholeNumber | None = None
    output_bytes: WholeNumber | None = None


@dataclass(frozen=True, slots=True)
class Provenance(Document):
    """Under what circumstances a bound was measured. `spread` is (max - min) / median over the rounds.

    `harness` is the version of what timed the iterations (null: 1, or a pair of commands). `starts` is the number of
    occasions, and `between` the standard deviation of their values, in the value's unit; null for one occasion.
    `evidence` are the digests of the runs it was measured in: none of them is judged by it, under whatever name. `work` is what
    an iteration had to do there: a run of other work is not judged by it. `timed_by` is what was timed (null: nobody wrote it
    down): a run timed by something else is not judged by it. `digest` is that of the claim as it was accepted
    (``claims/digest.py``; null: an older bound).
    """

    commit: Text | None = None
    driver: Text | None = None
    torch: Text | None = None
    nsys: Text | None = None
    rounds: WholeNumber | None = None
    spread: Number | None = None
    recorded_utc: Text | None = None
    harness: WholeNumber | None = None
    starts: WholeNumber | None = None
    between: Number | None = None
    evidence: Annotated[tuple[Text, ...], null_is((), tuple[Text, ...])] = ()
    work: RequiredWork | None = None
    timed_by: TimedBy | None = None
    digest: Text | None = None


Grade = Literal["estimate", "indicative"]
"""How far a prediction is to be trusted; see docs/headroom.md."""


@dataclass(frozen=True, slots=True)
class Predicted(Document):
    """What a replay of the baseline's recording said of the variant before anybody measured it.

    `run` is the baseline's, `base_ms` its untraced iteration, `estimate_ms` and `at_most_ms` those after the `changes`, one made
    after the other. `stages_ms` are milliseconds of the predicted critical path of an iteration, by stage.
    """

    run: Text
    changes: Annotated[tuple[Text, ...], Field(min_length=1)]
    grade: Grade
    base_ms: Positive
    estimate_ms: Positive
    at_most_ms: Positive
    stages_ms: Annotated[Mapping[str, Positive], null_is({}, Mapping[str, Positive])] = field(default_factory=dict)


Floors = Annotated[
    Mapping[str, Positive], Field(min_length=1, description="least items per second, for either or both")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeClaim(Document):
    """`variant` against `baseline`, judged on untraced rounds.

    `ratio` bounds time(baseline) / time(variant); above its maximum is better than expected, never a failure.
    `max_ms` bounds the milliseconds of one iteration, for one of `baseline` and `variant`, both or none.
    `size` is the workload's size the times belong to; null where the workload has none. `min_items_per_s` bounds the
    required items of one iteration over its time, for one of the two variants, both or none; items are counted
    in the unit that the workload states (tokens, samples).

    `statistic` sums up the iterations of a round; null is the mean, and files of schema 1 have the median. A claim is met only
    if it holds by the other one, too. `predicted` is the prediction that the bounds come from, null for none.
    """

    type: Literal["time"] = "time"
    id: Identifier
    workload: Text
    variant: Text
    baseline: Text
    size: Annotated[Text | None, Field(description="times belong to one size; null where the workload has none")]
    ratio: Annotated[Bound, Field(description="time of baseline / time of variant; above max is better than expected")]
    max_ms: Annotated[
        Mapping[str, Positive],
        Field(description="most milliseconds of one iteration, for baseline, variant or both; {}: no limit"),
    ]
    min_items_per_s: Annotated[Floors, null_is({}, Floors)] = field(default_factory=dict)
    statistic: Annotated[
        Statistic | None, Field(description="of a round's iterations; null: mean. met needs both to hold")
    ] = None
    why: Text
    source: Source
    provenance: Provenance | None = None
    predicted: Annotated[Predicted | None, Field(description="the prediction that the bounds come from")] = None

    @property
    def by(self) -> Statistic:
        """The statistic that is meant."""
        return self.statistic or "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismClaim(Document):
    """A `metric` of the trace of `variant`, judged on the measured window.

    `of` chooses within the metric ("copy|compute", "h2d"), `stage` narrows it to one stage path. `against` names
    another variant: the value is then the metric of `variant` divided by that of `against`, and `unit` is "ratio".
    `size` null means every size of the workload.
    """

    type: Literal["mechanism"] = "mechanism"
    id: Identifier
    workload: Text
    variant: Text
    size: Text | None = None
    metric: Text
    of: Text | None = None
    stage: Text | None = None
    against: Text | None = None
    bound: Bound
    unit: Text
    why: Text
    source: Source
    provenance: Provenance | None = None

    def quantity(self) -> str:
        """The value in words: ``overlap.efficiency copy|compute of optimized``."""
        words = [self.metric, *([self.of] if self.of else []), *([f"in {self.stage}"] if self.stage else [])]
        relative = f" / {self.against}" if self.against else ""
        return f"{' '.join(words)} of {self.variant}{relative}"


Claim = TimeClaim | MechanismClaim


@dataclass(frozen=True, slots=True)
class ExpectationFile:
    """The claims of one file, all for one `hardware_key` (or `ANY`)."""

    hardware_key: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Expectations:
    """Every file of one folder. `chosen` says why this folder: "option", "project" or "package"."""

    folder: Path
    chosen: str
    files: tuple[ExpectationFile, ...]
