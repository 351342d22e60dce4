"""What a verification knows before the verdict: what was asked for, the conversation with the child, the tools' outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .limits import MemoryLimits
from .plan import CALLS, Call
from .result import Reason


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be verified and how. Empty `dtype` and `shapes`, null `device`: the task's first, what this machine has."""

    file: Path
    task: str
    dtype: str = ""
    shapes: Sequence[str] = ()
    device: str | None = None
    calls: int = CALLS
    allow_library: bool = False
    sanitizer: bool = True
    timeout_s: float = 900.0
    keep: Path | None = None
    call_s: float = 60.0
    """For one call with all that is looked at around it. Under compute-sanitizer ten times as long."""
    within_s: float | None = None
    """For all processes together; what did not begin by then does not begin. Null: each may take `timeout_s`."""
    run_untrusted: bool = False
    """Whether a source that a model wrote may run; without it, asking for one is an error."""
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    """Of such a source's memory."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One call as it went: what the child was asked and what it answered; `files` hold the outputs that were kept."""

    call: Call
    order: Mapping[str, Any]
    token: str
    answer: Mapping[str, Any]
    files: Mapping[str, Path]


@dataclass(slots=True)
class Heard:
    """The whole conversation. `failure` is why it ended early."""

    spoken: list[Spoken] = field(default_factory=list)
    objections: list[Reason] = field(default_factory=list)
    failure: Reason | None = None
    pid: int | None = None
    finished: bool = False
    torch: str = ""
    where: str = "while it started"
    """What was under way last."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The file that was asked for; `path` is what the child loads, `own` its kernels (null: not known beforehand)."""

    file: Path
    path: Path
    digest: str
    own: frozenset[str] | None
    compiler: str | None


@dataclass(frozen=True, slots=True)
class Sanitized:
    """What a tool of compute-sanitizer found: `clean` is null where it could not look, and `said` why."""

    tool: str
    clean: bool | None
    said: str
