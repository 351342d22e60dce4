"""Time a kernel beside PyTorch: one process for each implementation, which times all cases, recorded by nsys.

kernel      time case, case, ...  (recorded)   energy case, case, ...  (not recorded; NVML is read by this process)
eager       the same
compiled    the same
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ...capture.nsight import find_nsys
from ...capture.nsys import NsysRecorder
from ...capture.power import Watched, watch
from ...traces.errors import InputError, RecorderError, WorkloadError
from ...traces.output import real
from ...traces.version import version
from .. import emit, space
from ..build import CompileError, KernelError, arch_of, build
from ..task import Settings, Shape, Task
from ..untrusted import compiling
from ..verify.judge import Facts, Judged, Rules, judge
from ..verify.limits import MemoryLimits
from ..verify.parent import digest_of, made_with, recorder_for
from ..verify.plan import shape_text
from ..verify.recording import read_recording
from .limits import Limits, limits_of
from .result import COMPILED, IMPLEMENTATIONS, KERNEL, NOT_VERIFIED, Bench, Measurement
from .steps import Ran, Step, run_steps

LARGE_BYTES: Final = 32 << 20
"""Required bytes from which a shape of a task is benched if none is named: some ten microseconds of an H200's memory."""

CALLS: Final = 30
"""Timed calls of a case."""

CASE_S: Final = 120.0
COMPILED_S: Final = 600.0
"""For one case; with torch.compile, whose first case takes half a minute."""

GATED: Final = ("--capture-range=cudaProfilerApi", "--capture-range-end=stop")
"""nsys's options by which the process says what is recorded; it goes on when the recording has ended."""

Say = Callable[[str], None]
SoFar = Callable[[list[Bench]], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One kernel to bench: a file, or null for the task's own with `settings` (null: defaults). `shapes`: empty for the large
    ones. `verification` is the JSON of `kernels verify` that may speak of it.
    """

    task: Task
    dtype: str
    shapes: Sequence[Shape] = ()
    file: Path | None = None
    verification: Mapping[str, Any] | None = None
    settings: Settings | None = None

    @property
    def parameters(self) -> Settings | None:
        """What the task's own kernel is emitted with; null for a file."""
        return None if self.file is not None else self.settings or space.defaults(self.task)


@dataclass(frozen=True, slots=True)
class Options:
    """How to bench. `energy_shapes` limits loops for energy to the first shapes of each kernel; after `deadline`
    (`time.monotonic`) nothing more is begun."""

    compiled: bool = True
    seconds: float = 2.0
    calls: int = CALLS
    energy_shapes: int | None = None
    deadline: float | None = None
    device: str = "cuda"
    limits: MemoryLimits | None = None
    """Of the memory of a kernel that a model wrote."""


@dataclass(slots=True)
class _Case:
    """An implementation at a shape, and what is known of it so far."""

    number: int
    wanted: Wanted
    shape: Shape
    how: str
    path: Path | None
    measured: Measurement
    energy: bool
    events: Sequence[int] = ()
    span: tuple[int, int] | None = None

    @property
    def question(self) -> dict[str, Any]:
        task = self.wanted.task.name
        path = None if self.path is None else str(self.path)
        what = {"task": task, "dtype": self.wanted.dtype, "shape": dict(self.shape), "how": self.how, "path": path}
        return {**what, "key": self.key}

    @property
    def key(self) -> str:
        return f"{self.how}{self.number}"

    @property
    def where(self) -> str:
        return f"{self.wanted.task.name} {self.measured.shape}"

    def know(self, **more: Any) -> None:
        self.measured = replace(self.measured, **more)


@dataclass(slots=True)
class _Seen:
    """What all processes together reported."""

    cases: list[_Case] = field(default_factory=list)
    facts: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def large_shapes(task: Task, dtype: str) -> list[Shape]:
    """The shapes of `task` that are benched if none is named."""
    return [shape for shape in task.shapes if task.bytes(shape, dtype) >= LARGE_BYTES] or [task.shapes[0]]


def bench(wanted: Wanted, options: Options, say: Say = lambda text: None) -> Bench:
    """`bench_all` of one kernel."""
    return bench_all([wanted], options, say)[0]


def bench_all(
    wanted: Sequence[Wanted], options: Options, say: Say = lambda text: None, so_far: SoFar = lambda found: None
) -> list[Bench]:
    """All kernels beside PyTorch; `so_far` hears what is known after each implementation.

    Raises `InputError` for a file that does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="aisp-trace-bench-") as temporary:
        folder = Path(temporary)
        say("compiling")
        files = [_file_of(one, folder, number) for number, one in enumerate(wanted)]
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            paths = list(pool.map(lambda file: _loadable(file, options.device), files))
        return bench_files(wanted, files, paths, options, folder, say, so_far)


def bench_files(
    wanted: Sequence[Wanted],
    files: Sequence[Path],
    paths: Sequence[Path],
    options: Options,
    folder: Path,
    say: Say = lambda text: None,
    so_far: SoFar = lambda found: None,
) -> list[Bench]:
    """The same where each kernel's source lies in `files`, and what a process loads in `paths`."""
    nsys = find_nsys() if options.device == "cuda" else None
    recorder, unrecorded = recorder_for(options.device, nsys)
    if recorder is not None:
        recorder = replace(recorder, extra=GATED)
    seen = _Seen(notes=[f"not recorded: {unrecorded}"] if unrecorded else [])
    made = made_with(options.device, nsys)
    found: list[Bench] = []
    for how in IMPLEMENTATIONS:
        if how == COMPILED and not options.compiled:
            continue
        say(f"timing {IMPLEMENTATIONS[how]}" + ("" if recorder is None else ", recorded"))
        cases = list(_cases(how, wanted, paths, options, len(seen.cases)))
        seen.cases += cases
        _run(how, cases, seen, recorder, options, folder / how)
        limits = None if seen.facts is None else limits_of(seen.facts, Path.cwd())
        found = [_bench(one, file, seen, limits, made, options) for one, file in zip(wanted, files, strict=True)]
        so_far(found)
    return found


def verification_of(document: Mapping[str, Any] | None, digest: str, task: str, dtype: str) -> str:
    """What `document`, printed by `kernels verify --json`, says of this kernel; "not verified" and why if nothing."""
    if document is None:
        return NOT_VERIFIED
    candidate = document.get("candidate")
    sha256 = candidate.get("sha256") if isinstance(candidate, dict) else None
    if (sha256, document.get("task"), document.get("dtype")) != (digest, task, dtype):
        return f"{NOT_VERIFIED}: the verification is of another file, task or dtype"
    return str(document.get("headline", NOT_VERIFIED))


# -- files -------------------------------------------------------------------------------------------------------------


def _file_of(wanted: Wanted, folder: Path, number: int) -> Path:
    """The kernel's source; the task's own is emitted, by the same bytes as `kernels emit` writes."""
    if wanted.file is not None:
        return wanted.file
    settings = wanted.settings or space.defaults(wanted.task)
    made = folder / f"emitted{number}" / f"{wanted.task.name}.cu"
    made.parent.mkdir()
    made.write_text(emit.source(wanted.task, settings, arch_of(_capability()), version()), encoding="utf-8")
    return made


def _capability() -> tuple[int, int]:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return int(major), int(minor)


def _loadable(file: Path, device: str) -> Path:
    """What a process loads: a library made of a .cu file, or the .py file itself."""
    if file.suffix != ".cu":
        return real(file)
    try:
        with compiling(file) as (source, compiler):
            return build(source, _capability(), compiler=compiler)
    except CompileError as exc:
        raise InputError(f"{file} does not compile: {exc.first}") from exc
    except KernelError as exc:
        raise InputError(str(exc)) from exc


# -- one implementation ------------------------------------------------------------------------------------------------


def _cases(how: str, wanted: Sequence[Wanted], paths: Sequence[Path], options: Options, first: int) -> Iterator[_Case]:
    number = first
    for one, path in zip(wanted, paths, strict=True):
        for place, shape in enumerate(one.shapes or large_shapes(one.task, one.dtype)):
            energy = options.seconds > 0 and (options.energy_shapes is None or place < options.energy_shapes)
            measured = Measurement(how, shape_text(shape))
            yield _Case(number, one, shape, how, path if how == KERNEL else None, measured, energy)
            number += 1


def _run(
    how: str, cases: Sequence[_Case], seen: _Seen, recorder: NsysRecorder | None, options: Options, folder: Path
) -> None:
    """Time all `cases` of one implementation and fill them in."""
    ran: list[Ran] = []
    steps, limits = _steps(how, cases, seen, options), options.limits if how == KERNEL else None
    with watch(options.device, os.environ) as watched:
        try:
            for one in run_steps(folder, options.device, steps, recorder=recorder, limits=limits):
                ran.append(one)
        except WorkloadError as exc:
            for case in (case for case in cases if not case.events):
                case.know(problem=case.measured.problem or str(exc))
    problems = [one.problem for one in ran if one.problem]
    for one in ran:
        if one.trace is not None and one.trace.is_file():
            problems += _fill_trace(one.trace, cases)
    if any(case.events and case.measured.trace_ns is None for case in cases):
        seen.notes += [f"{IMPLEMENTATIONS[how]}: not recorded: {problem}" for problem in problems]
    _fill_energy(watched, cases)


def _steps(how: str, cases: Sequence[_Case], seen: _Seen, options: Options) -> Iterator[Step]:
    """What the processes of one implementation are asked."""
    patience = COMPILED_S if how == COMPILED else CASE_S

    def described(answer: Mapping[str, Any]) -> None:
        seen.facts = seen.facts or answer

    def late() -> bool:
        return options.deadline is not None and time.monotonic() > options.deadline

    if seen.facts is None:
        yield Step("its first copies", {"do": "device"}, CASE_S, described, lambda why: None)
    for case in cases:
        if late():
            case.know(problem="not begun: the time was over")
            continue
        question = {"do": "time", "calls": options.calls, **case.question}
        yield Step(case.where, question, patience, _timed(case), _failed(case, ""))
    for case in cases:
        if case.energy and case.events and not late():
            question = {"do": "repeat", "seconds": options.seconds, **case.question}
            where = f"the loop for the energy of {case.where}"
            yield Step(where, question, patience + options.seconds, _repeated(case), _failed(case, "energy: "))


def _timed(case: _Case) -> Callable[[Mapping[str, Any]], None]:
    def hear(answer: Mapping[str, Any]) -> None:
        case.events = [int(ns) for ns in answer["event_ns"]]
        share = answer["tolerance_share"]
        case.know(
            calls=len(case.events),
            event_ns=statistics.median(case.events),
            event_low_ns=min(case.events),
            event_high_ns=max(case.events),
            first_call_ns=answer["first_call_ns"],
            tolerance_share=float("inf") if share is None else share,
        )

    return hear


def _repeated(case: _Case) -> Callable[[Mapping[str, Any]], None]:
    def hear(answer: Mapping[str, Any]) -> None:
        case.span = (int(answer["start_ns"]), int(answer["end_ns"]))
        case.know(energy_calls=int(answer["calls"]))

    return hear


def _failed(case: _Case, what: str) -> Callable[[str], None]:
    return lambda why: case.know(problem=what + why)


def _fill_trace(trace: Path, cases: Sequence[_Case]) -> list[str]:
    """Put the recorded times into the cases that are in this recording; why there are none, if so."""
    found = recorded_times(trace, {case.key: len(case.events) for case in cases if case.events})
    if isinstance(found, str):
        return [found]
    timings = {one.shape: one for one in found.timings}
    for case in cases:
        if (timing := timings.get(case.key)) is not None and timing.busy_ns:
            case.know(trace_ns=timing.busy_ns, span_ns=timing.time_ns, kernels=timing.kernels)
    return []


def recorded_times(trace: Path, calls: Mapping[str, int]) -> Judged | str:
    """The times of ranges ``call KEY.NUMBER`` in `trace`, by key, as the verifier reads them; why there are none.

    What the verifier objects to is left out: here calls may run PyTorch's kernels, and follow the flush at once.
    """
    try:
        recording = read_recording(trace)
    except RecorderError as exc:
        return str(exc)
    there = {r.name for r in recording.ranges}
    facts = [
        Facts(token, key, True, None, 0)
        for key, count in calls.items()
        for token in (f"{key}.{number}" for number in range(count))
        if f"call {token}" in there
    ]
    if calls and not facts:
        return "the recording has none of the calls"
    judged = judge(recording, facts, Rules(None, True, None))
    return judged.unknown or judged


def _fill_energy(watched: Watched, cases: Sequence[_Case]) -> None:
    """Joules a call, from the energy counter of the first GPU that is visible."""
    spans = {case.key: case.span for case in cases if case.span is not None}
    states = watched.states(spans)
    for case in cases:
        found = states.get(case.key)
        if found and found[0].energy_mj and case.measured.energy_calls:
            case.know(energy_j=found[0].energy_mj / 1e3 / case.measured.energy_calls)


# -- the answer --------------------------------------------------------------------------------------------------------


def _bench(
    wanted: Wanted, file: Path, seen: _Seen, limits: Limits | None, made: Mapping[str, Any], options: Options
) -> Bench:
    mine = [case for case in seen.cases if case.wanted is wanted]
    shapes = list({case.measured.shape: case.shape for case in mine}.values())
    bounds = [] if limits is None else [limits.of(wanted.task, shape, wanted.dtype) for shape in shapes]
    limit_ns: dict[str, float] = defaultdict(float, {one.shape: one.limit_ns for one in bounds})
    digest = digest_of(file)
    kernel: dict[str, Any] = {
        "file": file.name,
        "sha256": digest,
        "language": "CUDA" if file.suffix == ".cu" else "Python",
        "parameters": None if wanted.parameters is None else dict(wanted.parameters),
    }
    names = [] if seen.facts is None else seen.facts["names"]
    notes = list(dict.fromkeys(seen.notes))
    if options.seconds > 0 and any(case.span is not None and case.measured.energy_j is None for case in mine):
        notes.append("energy not measured: NVML's counter cannot be read; install nvidia-ml-py, the extra `gpu`")
    return Bench(
        task=wanted.task.name,
        dtype=wanted.dtype,
        device=str(names[0]) if names else options.device,
        kernel=kernel,
        verification=verification_of(wanted.verification, digest, wanted.task.name, wanted.dtype),
        limits=None
        if limits is None
        else {
            "bytes_per_s": limits.bytes_per_s,
            "bytes_source": limits.bytes_source,
            "flops_per_s": limits.flops_per_s,
            "flops_source": limits.flops_source,
        },
        shapes=bounds,
        measurements=[_with_share(case.measured, limit_ns[case.measured.shape]) for case in mine],
        notes=notes,
        made_with=made,
    )


def _with_share(measured: Measurement, limit_ns: float) -> Measurement:
    if not measured.time_ns or not limit_ns:
        return measured
    by = "events" if measured.trace_ns is None else "trace"
    return replace(measured, share_of_limit=limit_ns / measured.time_ns, share_by=by)
