"""What a bench and a search found. Light: dataclasses alone. The JSON of a bench is in docs/json.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..task import Settings

SCHEMA: Final = "aisp-trace/kernel-bench/1"

KERNEL: Final = "kernel"
EAGER: Final = "eager"
COMPILED: Final = "compiled"
IMPLEMENTATIONS: Final = {
    KERNEL: "the kernel",
    EAGER: "PyTorch, eager",
    COMPILED: "torch.compile, default mode, dynamic=False",
}
"""What is timed, in this order, each in a process of its own."""

MEMORY: Final = "memory"
FLOPS: Final = "flops"

NOT_VERIFIED: Final = "not verified"


@dataclass(frozen=True, slots=True)
class Limit:
    """The least time that a shape takes: `bound` is what sets it, memory or flops."""

    shape: str
    required_bytes: int
    flops: int
    bound: str
    limit_ns: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One implementation at one shape, in ns a call: medians, and the least and greatest by events.

    `trace_ns` is the time in which an operation of the call was running, by a recording of the same calls; `span_ns` from the
    first operation to the end of the last. `share_of_limit` is of the trace, where there is one (`share_by`). `energy_j` is
    joules a call over `energy_calls` calls back to back. `tolerance_share`: the error of the last output over what is
    allowed. `first_call_ns` includes loading and compiling. `problem`: why figures are missing.
    """

    implementation: str
    shape: str
    calls: int = 0
    event_ns: float | None = None
    event_low_ns: float | None = None
    event_high_ns: float | None = None
    trace_ns: float | None = None
    span_ns: float | None = None
    kernels: float | None = None
    share_of_limit: float | None = None
    share_by: str | None = None
    energy_j: float | None = None
    energy_calls: int | None = None
    tolerance_share: float | None = None
    first_call_ns: int | None = None
    problem: str = ""

    @property
    def time_ns(self) -> float | None:
        """By the trace, else by events."""
        return self.event_ns if self.trace_ns is None else self.trace_ns

    @property
    def is_wrong(self) -> bool:
        """Whether the output that was looked at is outside the tolerance."""
        return self.tolerance_share is not None and not self.tolerance_share <= 1


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything about one kernel beside PyTorch. `verification` is a headline of `kernels verify`, or "not verified"."""

    task: str
    dtype: str
    device: str
    kernel: Mapping[str, Any]
    verification: str
    limits: Mapping[str, Any] | None
    shapes: Sequence[Limit]
    measurements: Sequence[Measurement]
    notes: Sequence[str]
    made_with: Mapping[str, Any]

    @property
    def exit_code(self) -> int:
        """0 if the kernel was timed at every shape, and was right there; 3 if not."""
        ours = [one for one in self.measurements if one.implementation == KERNEL]
        return 0 if ours and all(one.event_ns is not None and not one.is_wrong for one in ours) else 3

    def of(self, implementation: str, shape: str) -> Measurement | None:
        """The measurement of one implementation at one shape."""
        return next((m for m in self.measurements if (m.implementation, m.shape) == (implementation, shape)), None)

    def document(self) -> dict[str, Any]:
        """What --json prints. An error that is not finite becomes null, with words in `problem`."""
        found = asdict(self)
        for one in found["measurements"]:
            if one["tolerance_share"] is not None and not math.isfinite(one["tolerance_share"]):
                one["tolerance_share"] = None
                one["problem"] = one["problem"] or "its output is not finite where it should be"
        return {"schema": SCHEMA, **found, "exit_code": self.exit_code}


# -- search ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """One combination of parameters: the time of each shape by events, in ns, or why there is none."""

    settings: Settings
    event_ns: Sequence[float] = ()
    problem: str = ""

    @property
    def score_ns(self) -> float:
        """The geometric mean over shapes, infinite where something went wrong: the smallest is the best."""
        if self.problem or not self.event_ns:
            return math.inf
        return math.exp(sum(map(math.log, self.event_ns)) / len(self.event_ns))


@dataclass(frozen=True, slots=True)
class Verified:
    """What `kernels verify` said of a combination; `trace_ns` has each shape's time, where a recording tells it."""

    tried: Tried
    headline: str
    status: str
    trace_ns: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found, the best combinations by events first. `best` is the best verified one, by its trace."""

    task: str
    dtype: str
    arch: str
    shapes: Sequence[str]
    limits_ns: Sequence[float]
    valid: int
    tried: Sequence[Tried]
    verified: Sequence[Verified]
    best: Verified | None
    seconds: float
    notes: Sequence[str]

    @property
    def failed(self) -> Sequence[Tried]:
        """Combinations that were not timed, or are wrong."""
        return [one for one in self.tried if one.problem]

    @property
    def exit_code(self) -> int:
        """0 with a verified best; 1 if all that were verified are refused; 3 if it is unknown."""
        if self.best is not None:
            return 0
        return 1 if self.verified and all(one.status == "refused" for one in self.verified) else 3
