"""Compiler, verifier and profile behind one face, and which of their words a model may hear.

A generated source may read files while it runs and put what it read into its own messages. So of a verdict only sentences go
back to the endpoint that the harness wrote; where a sentence has words of the candidate's, its code alone does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from .. import build
from ..untrusted import compiling, device_compiled
from ..verify.result import REASONS
from .result import CANNOT_TELL, NOT_COMPILED, REFUSED, VERIFIED, Attempt

OWN_WORDS: Final = frozenset(
    {"load", "crashed", "ended", "talked", "raised", "modules", "surroundings", "environment", "forged_ranges"}
)
"""Codes whose sentences may repeat what the candidate said, or names that it chose while it ran."""

REASONS_TOLD: Final = 6
KERNELS_TOLD: Final = 5
MOST_TOLD: Final = 400
"""Characters of a sentence."""

MOST_COMPILED: Final = 8000
"""Characters of what a compiler said."""


class Judge(Protocol):
    """What a loop asks of the machine. `Here` is the real one."""

    @property
    def runs(self) -> bool:
        """Whether candidates run here; else they wait for somebody to verify them elsewhere."""

    def compile(self, file: Path, left_s: float) -> str:
        """What the compiler says against `file` within `left_s`, stripped; empty: nothing, or there is none."""

    def verify(self, file: Path, left_s: float) -> Mapping[str, Any]:
        """The document of `kernels verify --json`, in about `left_s`, and `stalls` (stalls.py). Raises `AispTraceError`."""


@dataclass(frozen=True, slots=True)
class Here:
    """This machine. `verifies` answers the document of a file, given the seconds that are left; null: nothing runs here."""

    arch: str
    verifies: Callable[[Path, float], Mapping[str, Any]] | None
    compiles: bool = True

    @property
    def runs(self) -> bool:
        """As of `Judge`."""
        return self.verifies is not None

    def compile(self, file: Path, left_s: float) -> str:
        """By nvcc, else the device part by NVRTC, else not at all."""
        return compiled(file, self.arch, left_s) if self.compiles else ""

    def verify(self, file: Path, left_s: float) -> Mapping[str, Any]:
        """As of `Judge`."""
        assert self.verifies is not None
        return self.verifies(file, left_s)


def compiled(file: Path, arch: str, left_s: float) -> str:
    """As `Judge.compile`."""
    try:
        try:
            nvcc = build.find_nvcc()
        except build.NoCompilerError:
            device_compiled(file.read_bytes(), arch, left_s)
            return ""
        with compiling(file, left_s) as (source, compiler):
            build.build(source, build.capability_of(arch), nvcc, compiler=compiler)
    except build.CompileError as exc:
        return exc.said
    except build.NoCompilerError:
        return ""
    except build.KernelError as exc:
        return str(exc)
    return ""


def judged(attempt: Attempt, document: Mapping[str, Any]) -> None:
    """Write into `attempt` what a verification says of it."""
    status = document.get("status")
    attempt.outcome = str(status) if status in (VERIFIED, REFUSED, CANNOT_TELL) else CANNOT_TELL
    attempt.why = str(document.get("headline", ""))[:MOST_TOLD]
    timings = _objects(document, "timings")
    attempt.times_ns = {str(one.get("shape")): _number(one.get("time_ns")) for one in timings}
    attempt.shares = {str(one.get("shape")): _number(one.get("share_of_peak")) for one in timings}
    reasons = _objects(document, "reasons")
    if any(one.get("code") == "compile" for one in reasons):
        attempt.outcome = NOT_COMPILED
    stalls = document.get("stalls")
    attempt.told = [*_reasons(reasons), *_profile(timings, _objects(document, "kernels"))]
    attempt.told += [str(one)[:MOST_TOLD] for one in stalls] if isinstance(stalls, list) else []


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for one in reasons[:REASONS_TOLD]:
        code = str(one.get("code"))
        if code in REASONS:
            most = MOST_COMPILED if code == "compile" else MOST_TOLD  # stripped where it was compiled
            words = REASONS[code] if code in OWN_WORDS else str(one.get("text"))[:most]
            found.append(f"Refused for {code}: {words}")
    return found


def _profile(timings: Sequence[Mapping[str, Any]], kernels: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for one in timings:
        time, floor = _number(one.get("time_ns")), _number(one.get("floor_ns"))
        share, launches = _number(one.get("share_of_peak")), _number(one.get("kernels"))
        if time is None:
            continue
        words = [f"Measured at {one.get('shape')}: {time / 1e3:.2f} us by the trace"]
        words += [] if floor is None else [f"{floor / 1e3:.2f} us are the least that the memory allows"]
        words += [] if share is None else [f"{100 * share:.0f} % of the memory's peak"]
        words += [] if launches is None else [f"{launches:.2f} kernels a call"]
        found.append(", ".join(words))
    whole = sum(_number(one.get("sum_ns")) or 0.0 for one in kernels)
    for one in kernels[:KERNELS_TOLD]:
        spent = _number(one.get("sum_ns")) or 0.0
        if whole > 0:
            name = str(one.get("name"))[:120]
            found.append(
                f"Kernel {name}: {one.get('launches')} launches, {100 * spent / whole:.0f} % of the kernels' time"
            )
    return found


def _objects(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _number(value: Any) -> float | None:
    """A finite number above zero, as all times and shares are."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18 else None
