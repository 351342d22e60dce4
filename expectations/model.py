"""What an expectation is: claims written down before the run that they judge.

    expectations/
        expectations_any.json              claims that hold on every machine: counts and efficiencies
        expectations_<hardware_key>.json   claims of one machine: times and shares of time, too

A claim is one testable statement with the place its bound comes from. Two types exist:

    TimeClaim        `variant` is faster than `baseline` by a factor inside `ratio`, and neither side takes longer than
                     its own absolute bound. A ratio alone misses both sides slowing down together. Optionally, each
                     side gets at least so many items (tokens, samples: its required work) done per second.
    MechanismClaim   one metric of the trace (`metrics.METRICS`) lies inside `bound`: the reason for the speedup.

These are values; `parse` makes them from strict JSON and `load` finds the files. Nothing here reads or writes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SCHEMA: Final = "aisp-trace/expectations/1"

ANY: Final = "any"
"""The hardware key of claims that hold on every machine."""

SOURCE_KINDS: Final = ("measured", "model", "datasheet", "definition")
"""Where a bound may come from: a run, a calculation, a vendor's figure, or the meaning of the words."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The closed interval a value must lie in; null leaves that side open. At least one side is given."""

    minimum: float | None
    maximum: float | None

    def __str__(self) -> str:
        """``>= 1.5``, ``<= 0.02`` or ``1.5 .. 3``."""
        if self.minimum is None:
            return f"<= {self.maximum:.4g}"
        return f">= {self.minimum:.4g}" if self.maximum is None else f"{self.minimum:.4g} .. {self.maximum:.4g}"

    def holds(self, low: float, high: float) -> bool:
        """Whether all of ``[low, high]`` lies inside."""
        return (self.minimum is None or low >= self.minimum) and (self.maximum is None or high <= self.maximum)

    def excludes(self, low: float, high: float) -> bool:
        """Whether all of ``[low, high]`` lies outside, on one side."""
        return (self.minimum is not None and high < self.minimum) or (self.maximum is not None and low > self.maximum)

    def margin(self, low: float, high: float) -> float:
        """How far ``[low, high]`` stays from the nearest bound; negative by how much it trespasses."""
        distances = []
        if self.minimum is not None:
            distances.append(low - self.minimum)
        if self.maximum is not None:
            distances.append(self.maximum - high)
        return min(distances)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a bound comes from: its kind, the run it was measured in (kind "measured"), and words.

    `also` are earlier runs that the bound was measured in, too.
    """

    kind: str
    run: str | None
    text: str
    also: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Every run the bound was measured in: none of them is judged by it."""
        return (*self.also, *([self.run] if self.run is not None else []))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Under what circumstances a bound was measured. `spread` is (max - min) / median over the rounds."""

    commit: str | None
    driver: str | None
    torch: str | None
    nsys: str | None
    rounds: int | None
    spread: float | None
    recorded_utc: str | None


@dataclass(frozen=True, slots=True)
class TimeClaim:
    """`variant` against `baseline`, judged on untraced rounds.

    `ratio` bounds time(baseline) / time(variant); above its maximum is better than expected, never a failure.
    `max_ms` bounds the median milliseconds of one iteration, for exactly `baseline` and `variant`.
    `size` is the workload's size the times belong to; null where the workload has none. `min_items_per_s` bounds the
    required items of one iteration over its median time, for one of the two variants, both or none; items are counted
    in the unit that the workload states (tokens, samples).
    """

    id: str
    workload: str
    variant: str
    baseline: str
    size: str | None
    ratio: Bound
    max_ms: Mapping[str, float]
    why: str
    source: Source
    provenance: Provenance | None
    min_items_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MechanismClaim:
    """A `metric` of the trace of `variant`, judged on the measured window.

    `of` chooses within the metric ("copy|compute", "h2d"), `stage` narrows it to one stage path. `against` names
    another variant: the value is then the metric of `variant` divided by that of `against`, and `unit` is "ratio".
    `size` null means every size of the workload.
    """

    id: str
    workload: str
    variant: str
    metric: str
    of: str | None
    stage: str | None
    against: str | None
    size: str | None
    bound: Bound
    unit: str
    why: str
    source: Source
    provenance: Provenance | None

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
