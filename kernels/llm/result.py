"""One attempt of a model, and what became of it. Light: dataclasses alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

NO_SOURCE: Final = "no source"
NOT_ALLOWED: Final = "not allowed"
NOT_COMPILED: Final = "does not compile"
WAITING: Final = "waiting"
VERIFIED: Final = "verified"
REFUSED: Final = "refused"
CANNOT_TELL: Final = "cannot tell"
OUTCOMES: Final = {
    NO_SOURCE: "the reply had no source",
    NOT_ALLOWED: "the source has what no generated source may have",
    NOT_COMPILED: "the compiler refused it",
    WAITING: "it has to be verified where there is a GPU",
    VERIFIED: "its outputs are right, and its time is by the trace",
    REFUSED: "the verifier refused it",
    CANNOT_TELL: "nothing speaks against it, and nothing was recorded",
}
"""What may become of an attempt."""


@dataclass(slots=True)
class Attempt:
    """What one round brought. Number 0 is the template, which the model is to beat.

    `told` is what the model reads about it. `times_ns` has the time of each timed shape, by the trace alone; `exchanges`, `file`
    and `answer` are names in the session's folder.
    """

    number: int
    outcome: str
    why: str = ""
    sha256: str = ""
    file: str = ""
    answer: str = ""
    exchanges: Sequence[str] = field(default_factory=list)
    told: Sequence[str] = field(default_factory=list)
    times_ns: Mapping[str, float | None] = field(default_factory=dict)
    shares: Mapping[str, float | None] = field(default_factory=dict)
    """Of the memory's peak, by shape; null: the shape fits into the cache, or nobody knows the peak."""

    @property
    def score_ns(self) -> float:
        """The geometric mean over shapes of one that is verified, infinite for any other: the smallest is the best."""
        times = list(self.times_ns.values())
        if self.outcome != VERIFIED or not times or not all(times):
            return math.inf
        return math.exp(sum(math.log(time) for time in times if time) / len(times))


@dataclass(frozen=True, slots=True)
class Generated:
    """What a session came to. `ended` says why it ended; `best` is the fastest verified attempt, the template's own included."""

    task: str
    dtype: str
    arch: str
    model: str
    attempts: Sequence[Attempt]
    best: Attempt | None
    waiting: Attempt | None
    ended: str
    rounds: int
    tokens: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 with a verified best; 1 if all that were verified are refused; 3 if it is unknown."""
        if self.best is not None:
            return 0
        judged = [one.outcome for one in self.attempts if one.outcome in (REFUSED, CANNOT_TELL)]
        return 1 if judged and all(outcome == REFUSED for outcome in judged) and self.waiting is None else 3
