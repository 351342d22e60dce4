"""Search a task's parameters on this machine's GPU.

threads      nvcc, nvcc, nvcc, ...      combinations in the order of space.py, on all cores but one
a process    time, time, time, ...      each as it is compiled; if one crashes or hangs, the next ones go on in a new process
verifier     best, second, third, defaults, each as `kernels verify` does it: the trace's time decides
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from ...traces.errors import AispTraceError, UsageError
from ...traces.version import version
from .. import emit, space
from ..build import CompileError, KernelError, arch_of, build
from ..task import Settings, Shape, Task
from ..verify import parent as verifier
from ..verify.evidence import Asked as Verification
from ..verify.plan import shape_text
from ..verify.result import CANNOT_TELL, VERIFIED
from .limits import limits_of
from .result import KERNEL, Searched, Tried, Verified
from .steps import Step, run_steps

CALLS: Final = 15
"""Timed calls of a combination at a shape: some ten milliseconds with all that is around them."""

BEST: Final = 3
"""How many are measured again."""

RENEW: Final = 256
"""Questions to one process. Every library brings a CUDA runtime of its own, of which a process cannot hold any number."""

PAUSE_S: Final = 0.5
"""How long a compiler is waited for before somebody may look up."""

STEP_S: Final = 30.0
"""After this long a combination hangs."""

Say = Callable[[str], None]
Compile = Callable[[Settings], Path]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to search. Empty `shapes`: the task's first; null `arch`: this GPU's."""

    task: Task
    dtype: str
    shapes: Sequence[Shape] = ()
    arch: str | None = None
    budget_s: float = 120.0


@dataclass(slots=True)
class _Seen:
    """What the timing process reported about its device, and every combination that was tried."""

    facts: Mapping[str, Any] | None = None
    tried: list[Tried] = field(default_factory=list)


def search(asked: Asked, say: Say = lambda text: None) -> Searched:
    """Try combinations until the budget is spent, and verify the best. Raises `UsageError` for another GPU's `arch`."""
    import torch

    capability = torch.cuda.get_device_capability()
    here = arch_of(capability)
    if asked.arch not in (None, here):
        raise UsageError(f"--arch {asked.arch} cannot be measured here: this machine's GPU is {here}")
    with tempfile.TemporaryDirectory(prefix="aisp-trace-search-") as temporary:
        folder = Path(temporary)

        def compiled(settings: Settings) -> Path:
            return build(_write(asked.task, settings, here, folder), capability, cache=folder / "libraries")

        began = time.monotonic()
        facts, tried = try_all(asked, compiled, folder, "cuda", say=say)
        seconds = time.monotonic() - began
        verified = verify_best(asked, tried, lambda settings: _write(asked.task, settings, here, folder), say)
        return summary(asked, here, facts, tried, verified, seconds)


def try_all(
    asked: Asked, compiled: Compile, folder: Path, device: str, *, say: Say = lambda text: None, step_s: float = STEP_S
) -> tuple[Mapping[str, Any] | None, list[Tried]]:
    """(what the process says of its device, all combinations that were tried, the best first)."""
    seen = _Seen()
    deadline = time.monotonic() + asked.budget_s
    say(f"trying combinations of {asked.task.name} for {asked.budget_s:g} s")
    workers = max((os.cpu_count() or 1) - 1, 1)
    with Compiling(space.combinations(asked.task), compiled, workers, deadline) as made:
        for _ in run_steps(folder / "timing", device, _steps(asked, made, seen, step_s), most=RENEW):
            pass
    return seen.facts, sorted(seen.tried, key=lambda one: one.score_ns)


class Compiling:
    """Compiles combinations side by side, beginning at once. A context manager: what was not begun when it is left is dropped.

    Iterated once, it gives each combination as it is done, with its path or what went wrong, until `deadline` (of
    `time.monotonic`) has passed; null where nothing was done for a while. The first one, the defaults, is given in any case.
    """

    def __init__(self, combinations: Iterable[Settings], compiled: Compile, workers: int, deadline: float) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._waiting = {self._pool.submit(compiled, one): one for one in combinations}
        self._first = next(iter(self._waiting), None)
        self._deadline = deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Settings, Path | str] | None]:
        waiting = self._waiting
        while waiting and (left := self._time_left()) > 0:
            first = [self._first] if self._first in waiting else waiting
            done = wait(first, min(left, PAUSE_S), FIRST_COMPLETED).done
            if not done:
                yield None
            for one in [future for future in waiting if future in done]:
                if self._time_left() > 0:
                    yield waiting.pop(one), _outcome(one)

    def _time_left(self) -> float:
        return PAUSE_S if self._first in self._waiting else self._deadline - time.monotonic()


def _outcome(done: Future[Path]) -> Path | str:
    try:
        return done.result()
    except CompileError as exc:
        return f"it does not compile: {exc.first}"
    except KernelError as exc:
        return str(exc)


def _steps(
    asked: Asked, made: Iterable[tuple[Settings, Path | str] | None], seen: _Seen, step_s: float
) -> Iterator[Step | None]:
    """The device, then each combination at each shape; one that fails at a shape is not tried at the next."""

    def described(answer: Mapping[str, Any]) -> None:
        seen.facts = answer

    yield Step("its first copies", {"do": "device"}, step_s, described, lambda why: None)
    for number, one in enumerate(made):
        if one is None:
            yield None
            continue
        settings, path = one
        if isinstance(path, str):
            seen.tried.append(Tried(settings, problem=path))
            continue
        times: list[float] = []
        problems: list[str] = []
        for shape in _shapes(asked):
            if problems:
                break
            question: dict[str, Any] = {"do": "time", "task": asked.task.name, "dtype": asked.dtype, "calls": CALLS}
            question |= {"shape": dict(shape), "how": KERNEL, "path": str(path), "key": str(number)}
            yield Step(shape_text(shape), question, step_s, _hears(times, problems), problems.append)
        seen.tried.append(Tried(settings, tuple(times), "; ".join(problems)))
        path.unlink(missing_ok=True)


def _hears(times: list[float], problems: list[str]) -> Callable[[Mapping[str, Any]], None]:
    def hear(answer: Mapping[str, Any]) -> None:
        share = answer["tolerance_share"]
        if share is None or share > 1:
            problems.append("its output is outside the tolerance")
        else:
            times.append(statistics.median(answer["event_ns"]))

    return hear


def verify_best(
    asked: Asked,
    tried: Sequence[Tried],
    written: Callable[[Settings], Path],
    say: Say = lambda text: None,
    verify: Callable[[Verification], Any] = verifier.verify,
) -> list[Verified]:
    """The verdicts on the best of `tried`, and on the defaults if they were right."""
    defaults = space.defaults(asked.task)
    right = [one for one in tried if not one.problem]
    chosen = right[:BEST] + [one for one in right[BEST:] if dict(one.settings) == defaults]
    shapes = [shape_text(shape) for shape in _shapes(asked)]
    found = []
    for number, one in enumerate(chosen):
        say(f"verifying {number + 1} of {len(chosen)}")
        try:
            told = verify(Verification(written(one.settings), asked.task.name, asked.dtype, shapes, sanitizer=False))
        except AispTraceError as exc:
            found.append(Verified(one, f"cannot tell: {exc}", CANNOT_TELL, (None,) * len(shapes)))
            continue
        times = {timing.shape: timing.time_ns for timing in told.timings}
        found.append(Verified(one, told.headline, told.status, tuple(times.get(shape) for shape in shapes)))
    return found


def summary(
    asked: Asked,
    arch: str,
    facts: Mapping[str, Any] | None,
    tried: Sequence[Tried],
    verified: Sequence[Verified],
    seconds: float,
) -> Searched:
    """Everything together; the best is the fastest by its trace among those that were verified."""
    shapes, notes = _shapes(asked), []
    limits_ns: list[float] = []
    if facts is not None:
        limits = limits_of(facts, Path.cwd())
        limits_ns = [limits.of(asked.task, shape, asked.dtype).limit_ns for shape in shapes]
        notes.append(f"limit: required bytes at {limits.bytes_per_s / 1e12:.2f} TB/s ({limits.bytes_source})")
    good = [one for one in verified if one.status == VERIFIED and all(one.trace_ns)]
    return Searched(
        task=asked.task.name,
        dtype=asked.dtype,
        arch=arch,
        shapes=[shape_text(shape) for shape in shapes],
        limits_ns=limits_ns,
        valid=sum(1 for _ in space.combinations(asked.task)),
        tried=tried,
        verified=verified,
        best=min(good, key=lambda one: Tried({}, [ns or 0.0 for ns in one.trace_ns]).score_ns, default=None),
        seconds=seconds,
        notes=notes,
    )


def _shapes(asked: Asked) -> Sequence[Shape]:
    return asked.shapes or asked.task.shapes[:1]


def _write(task: Task, settings: Settings, arch: str, folder: Path) -> Path:
    """The source of one combination, in a folder of its own."""
    name = "-".join(str(value) for value in settings.values())
    made = folder / "sources" / name / f"{task.name}.cu"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(emit.source(task, settings, arch, version()), encoding="utf-8")
    return made
