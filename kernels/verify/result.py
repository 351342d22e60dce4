"""The verdict on a candidate, with all its evidence, and its JSON (docs/json.md). Light: dataclasses alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

SCHEMA: Final = "aisp-trace/kernel-verification/1"

VERIFIED: Final = "verified"
REFUSED: Final = "refused"
CANNOT_TELL: Final = "cannot tell"
EXIT_CODES: Final = {VERIFIED: 0, REFUSED: 1, CANNOT_TELL: 3}

REASONS: Final = {
    "compile": "it does not compile",
    "load": "it could not be loaded",
    "crashed": "its process died",
    "ended": "its process ended early",
    "hung": "a call did not end",
    "memory": "it took more memory than it may",
    "talked": "it spoke in the harness's place",
    "raised": "a call failed",
    "forged_ranges": "the recording has ranges that the harness did not write",
    "modules": "it changed modules",
    "surroundings": "it changed what the process shares",
    "environment": "it changed the environment",
    "not_plain": "it returned no plain tensor",
    "alias": "it returned an input's memory",
    "inputs_changed": "it changed its inputs",
    "guards": "it wrote outside its outputs",
    "running": "it went on working after a call",
    "unwritten": "part of an output was not written",
    "wrong": "an output is wrong",
    "nondeterministic": "the same inputs gave different bits",
    "ahead": "it worked before a call",
    "no_kernel": "a call launched no kernel",
    "library": "it calls a library's kernels",
    "host_work": "it moves data to the host or from it in a call",
    "graph": "it replays a graph",
    "thread": "another thread or process used the device",
    "outside": "it used the device between calls",
    "harness_work": "more ran under the harness's name than the harness launches",
    "outlives": "its work outlived the call",
    "stream": "it ran on another stream than it was given",
    "varies": "its launches differ from call to call",
    "clock": "events and trace disagree",
    "too_fast": "it is faster than memory allows",
    "sanitizer": "compute-sanitizer found an error",
}
"""Why a candidate is refused, in the order in which the first one found becomes the headline."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against a candidate: a key of `REASONS`, a sentence, and how many calls show it."""

    code: str
    text: str
    calls: int = 1


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The output that used most of its tolerance. Errors are null where something was not finite that should be."""

    output: str
    shape: str
    kind: str
    place: str
    norm: float | None
    norm_allowed: float
    worst: float | None
    worst_allowed: float
    element: Sequence[int]
    found: float
    expected: float


@dataclass(frozen=True, slots=True)
class Timing:
    """The timed calls of one shape, in ns: medians, by the trace where there is one. `floor_ns`: required bytes at the peak.

    `time_ns` is from the first operation of a call to the end of the last, `busy_ns` without the gaps between them.
    """

    shape: str
    calls: int
    time_ns: float | None
    low_ns: float | None
    high_ns: float | None
    busy_ns: float | None
    event_ns: float | None
    kernels: float | None
    required_bytes: int
    floor_ns: float | None
    share_of_peak: float | None


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A kernel that ran in calls: how often, for how long in all, and the library it seems to be of (null: none)."""

    name: str
    launches: int
    sum_ns: int
    library: str | None
    own: bool | None


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was checked (`result` is what was seen), or was not (`result` is why)."""

    what: str
    done: bool
    result: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything about one verification."""

    status: str
    why: str
    reasons: Sequence[Reason]
    candidate: Mapping[str, Any]
    task: str
    dtype: str
    device: str
    worst: WorstCase | None
    timings: Sequence[Timing]
    kernels: Sequence[KernelRow]
    checks: Sequence[Check]
    calls: int
    compared: int
    peak: Mapping[str, Any] | None
    made_with: Mapping[str, Any]
    notes: Sequence[str]
    shapes: Sequence[str] = ()
    """At which outputs were compared."""

    @property
    def headline(self) -> str:
        """``verified``, ``refused: REASON`` or ``cannot tell: WHY``."""
        return self.status if self.status == VERIFIED else f"{self.status}: {self.why}"

    @property
    def exit_code(self) -> int:
        """0 verified, 1 refused, 3 cannot tell."""
        return EXIT_CODES[self.status]

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        found = {"schema": SCHEMA, **asdict(self), "headline": self.headline, "exit_code": self.exit_code}
        plain: dict[str, Any] = _finite(found)
        return plain


def _finite(value: Any) -> Any:
    """`value` without NaN and infinity, which JSON does not have: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
