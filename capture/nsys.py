"""The recorder nsys: run a program under Nsight Systems and keep a scrubbed SQLite export of what it saw.

Afterwards the export (``nsys_report.py``) is checked for what nsys loses silently: ranges, device rows, forked processes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError, WorkloadError
from . import program
from .answer import ANSWER, ANSWER_VARIABLE
from .environments import NVTX
from .export_check import Counts, recorded_processes
from .nsight import Nsys
from .nsys_report import REPORT, STREAM, TRACE, export, make_report, no_ranges
from .nsys_session import run_window, session_commands
from .nsys_starts import failed_itself, starts
from .nvtx_ranges import LACKING, LACKING_VARIABLE
from .passing import OwnLines
from .processes import Finished, how_ended, last_line, run_process, to_terminal
from .running import Running
from .stages import DOMAIN, MEASURED, RECORDER_VARIABLE
from .window import Window
from .windowed import after_recording

PROFILES: Final = ("none", "minimal", "deep")

LOST_SHARE: Final = 0.05
"""Share of launches without a device row above which a recording is said to have lost rows."""

GRAPH_TRACE: Final = "--cuda-graph-trace"
"""nsys's option for CUDA graphs; the user's own use of it replaces that of a profile."""

FORK_TRACE: Final = "--trace-fork-before-exec"
"""nsys's option to record processes that were only forked, such as workers of `multiprocessing`; likewise."""

OWN_LINES: Final = OwnLines(
    (b"Generating '", b"Generated:", b"    /", b"Capture range ", b"\r[", b"["),
    re.compile(
        rb"Generating '[^']*nsys-report-|Generated:$|    /\S.*\.(nsys-rep|qdstrm)$|Capture range (started|ended) in the appl|"
        rb"\r?\[\d+/\d+\] \["
    ),
)
"""What nsys 2022.4 to 2025.3 say between the lines of a program that they relay, when a recording begins or ends."""

NAME_STAGES: Final = (
    'put `with stage("name"):` (`from aisp_trace import stage`) around its steps, and results name them'
)
ONLY_PHASES: Final = (
    "the program opened no range of its own, so its stages are torch's calls: data, forward, backward, optimizer; `with "
    'stage("name"):` (`from aisp_trace import stage`) adds others'
)

NAMED: Final = 6
"""Forked processes that are named one by one."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One finished recording. `trace` and `kind_file` are names in its folder; `empty`: no range and no launch is in it.

    `running` is the program of which a part was recorded, and which may go on.
    """

    exit_code: int
    wall_ns: int
    trace: str
    kind_file: str | None
    notes: tuple[str, ...]
    empty: bool = False
    running: Running | None = None


@dataclass(frozen=True, slots=True)
class NsysRecorder:
    """Records with `nsys` under `profile` ("minimal" or "deep"); `extra` are the user's own nsys arguments.

    `inherited` is the environment that the program and nsys start with; null: this process's. `window` is the part of a
    program of the user's that is recorded; null: all of it.
    """

    nsys: Nsys
    profile: str
    device: str
    extra: tuple[str, ...] = ()
    inherited: Mapping[str, str] | None = None
    window: Window | None = None

    name: str = "nsys"

    @property
    def version(self) -> str:
        """The version of nsys."""
        return self.nsys.version

    @property
    def _inherited(self) -> Mapping[str, str]:
        return os.environ if self.inherited is None else self.inherited

    def environment(self, folder: Path, gated: bool) -> dict[str, str]:
        """Variables the recorded program gets."""
        if not gated:  # a program that times its iterations does so here, too
            path = self._inherited.get("PYTHONPATH")
            own = {ANSWER_VARIABLE: str(folder / ANSWER), LACKING_VARIABLE: str(folder / LACKING)}
            return {**own, **program.environment("nsys", path)}
        # Without the second, nsys compares `-p` with registered strings only, and matches none of ours by name.
        return {RECORDER_VARIABLE: "nsys", "NSYS_NVTX_PROFILER_REGISTER_ONLY": "0"}

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        """The command line that records `target` into `folder`, or launches it for a window; `gated` to the range `measured`."""
        options = self._options(gated)
        if self.window is not None:
            return session_commands(self.nsys, [*options, *self.extra], target, folder, self.window, "SESSION")[0]
        if gated:
            options += ["-c", "nvtx", "-p", f"{MEASURED}@{DOMAIN}", "--capture-range-end=stop"]
        output = folder / REPORT.removesuffix(".nsys-rep")
        own = ("--force-overwrite=true", f"--output={output}", *self.extra)
        return (str(self.nsys.path), "profile", *options, *own, *target)

    def _options(self, gated: bool) -> list[str]:
        """Options of the profile, but for those that the user's own replace."""
        options = profile_options(self.nsys, self.profile, self.device)
        if not gated and FORK_TRACE.removeprefix("--") in self.nsys.options:
            options.append(f"{FORK_TRACE}=true")
        for own in (GRAPH_TRACE, FORK_TRACE):
            if any(argument.startswith(own) for argument in self.extra):
                options = [option for option in options if not option.startswith(own)]
        return options

    def record(
        self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float, shown: bool = False
    ) -> Recorded:
        """Record `target`; `folder` must exist. `gated`: it is a workload of ours and opens the range `measured`. `shown`: its
        output passes through.

        Raises `RecorderError` if no readable trace came of it, or, when gated, no range of ours is in it, and `WorkloadError`
        if a program of the user's failed before anything was recorded. When a workload of ours fails, only its exit code is
        returned: the failure is the news, not what was recorded of it.
        """
        for leftover in (TRACE, REPORT, STREAM, LACKING):
            (folder / leftover).unlink(missing_ok=True)
        if self.window is not None:
            return self._record_window(self.window, target, folder, timeout_s)
        for _ in starts():
            done = self._profile(target, folder, gated, timeout_s, shown)
            if not failed_itself(folder, done.exit_code, gated=gated):
                break
        if gated and done.exit_code != 0:
            return Recorded(done.exit_code, done.wall_ns, TRACE, None, ())
        make_report(self.nsys, folder, done, gated=gated)
        counts = export(self.nsys, folder)
        empty = counts.launches == 0 and counts.ranges == 0
        if done.exit_code != 0 and empty:
            said = last_line(folder / "nsys-profile.stderr.log") or "without a word on stderr"
            raise WorkloadError(
                f"{shown_command(target)} {how_ended(done.exit_code)} before anything was recorded of it ({said})"
            )
        notes = _judge(counts, gated=gated, device=self.device, nsys=self.nsys, lacking=(folder / LACKING).is_file())
        if done.forked and (lost := sorted(set(done.forked) - recorded_processes(folder / TRACE))):
            notes = (*notes, lost_workers(self.nsys, self.extra, lost))
        return Recorded(done.exit_code, done.wall_ns, TRACE, None, notes, empty)

    def _record_window(self, window: Window, target: Sequence[str], folder: Path, timeout_s: float) -> Recorded:
        running, why = run_window(
            *(self.nsys, [*self._options(False), *self.extra], target, folder, window),
            environment={**self._inherited, **self.environment(folder, False)},
            own=OWN_LINES,
            who=shown_command(target),
            timeout_s=timeout_s,
        )
        try:
            done = after_recording(window, running)
            make_report(self.nsys, folder, done, gated=False)
            counts = export(self.nsys, folder)
            lacking = (folder / LACKING).is_file()
            notes = _judge(counts, gated=False, device=self.device, nsys=self.nsys, lacking=lacking)
        except BaseException:
            running.close()
            raise
        notes = (f"recorded {window.describe()}, until {why}", *notes)
        return Recorded(
            done.exit_code, done.wall_ns, TRACE, None, notes, counts.launches == 0 and counts.ranges == 0, running
        )

    def _profile(self, target: Sequence[str], folder: Path, gated: bool, timeout_s: float, shown: bool) -> Finished:
        out, err = folder / "nsys-profile.stdout.log", folder / "nsys-profile.stderr.log"
        try:
            done = run_process(
                self.command(target, folder, gated),
                stdout=out,
                stderr=err,
                timeout_s=timeout_s,
                environment={**self._inherited, **self.environment(folder, gated)},
                shown=to_terminal(OWN_LINES) if shown else None,
            )
        except OSError as exc:
            raise RecorderError(f"{self.nsys.path} cannot be started: {exc}; see `aisp-trace doctor`") from exc
        if done.timed_out:
            raise RecorderError(
                f"the recording of {shown_command(target)} did not end within {timeout_s:g} s and was stopped with all its "
                f"processes; give it longer with --timeout, and see {err} for how far it came"
            )
        return done


def profile_options(nsys: Nsys, profile: str, device: str) -> list[str]:
    """What `profile` means for this nsys; options it does not know are spelled its way or left out.

    CUDA graphs are recorded node by node: one recorded whole says nothing of stages, bytes and overlap. It costs a program
    without graphs nothing.
    """
    apis = "cuda,nvtx" if profile == "minimal" else "cuda,nvtx,osrt,cublas,cudnn"
    # Sampling hangs in some containers, and nothing here reads samples.
    options = [f"--trace={apis}", "--cuda-memory-usage=true", "--sample=none", "--cpuctxsw=none"]
    if GRAPH_TRACE.removeprefix("--") in nsys.options:
        options.append(f"{GRAPH_TRACE}=node")
    if profile == "deep" and device == "cuda":
        # Renamed in 2024: the plural takes a list.
        plural = "gpu-metrics-devices" in nsys.options
        options.append("--gpu-metrics-devices=all" if plural else "--gpu-metrics-device=all")
    if "discard-environment" in nsys.options:
        options.append("--discard-environment=true")
    return options


def _judge(counts: Counts, *, gated: bool, device: str, nsys: Nsys, lacking: bool = False) -> tuple[str, ...]:
    """Notes on what the recording lacks; raises `RecorderError` if a workload of ours left no range in it.

    `lacking`: a process of the program has no nvtx, so what it named and torch's phases are missing (`no_nvtx` says so).
    """
    if gated and counts.own_ranges == 0:
        raise RecorderError(no_ranges(nsys))
    notes = []
    if counts.launches and counts.without_row > LOST_SHARE * counts.launches:
        notes.append(
            f"{counts.without_row} of {counts.launches} launches have no row of the device: nsys {nsys.version} may be "
            f"too old for this driver, and sums of device time are too small"
        )
    if gated and device == "cuda" and counts.launches == 0:
        notes.append("the workload ran on the GPU, yet no launch was recorded: device times are missing")
    if lacking:  # `no_nvtx` says it of all recordings together
        return tuple(notes)
    if not gated and counts.ranges == 0:
        also = " and made no CUDA call, so there is nothing to analyze" if counts.launches == 0 else ""
        notes.append(f"the program opened no range{also}; {NAME_STAGES}")
    elif not gated and counts.ranges == counts.phases:
        notes.append(ONLY_PHASES)
    return tuple(notes)


def no_nvtx(run: Path, names: Sequence[str]) -> list[str]:
    """One note for all recordings below folder `run` of programs whose environment has no nvtx, by the `names` of variants."""
    lacking = [name for name in names if any((run / name).rglob(LACKING))]
    if not lacking:
        return []
    whose = " and ".join(lacking) if len(names) > 1 else "the program"
    return [
        f"the environment of {whose} lacks the package nvtx, without which nsys sees no stages and iterations: run "
        f"`pip install {NVTX}` there, and capture again"
    ]


def lost_workers(nsys: Nsys, extra: Sequence[str], pids: Sequence[int]) -> str:
    """That forked processes left nothing in the trace, and what would record them."""
    if FORK_TRACE.removeprefix("--") not in nsys.options:
        why = f"nsys {nsys.version} does not record processes that are only forked"
    elif f"{FORK_TRACE}=false" in extra:
        why = f"{FORK_TRACE}=false was asked for"
    else:
        why = "they opened no range and launched nothing, or were killed before nsys had written it"
    return (
        f"{processes_named(pids)} left nothing in the trace: {why}; workers that are started by 'spawn' (multiprocessing, or "
        "multiprocessing_context of a DataLoader) and end by themselves are recorded whole"
    )


def processes_named(pids: Sequence[int]) -> str:
    """``2 forked processes (17, 18)``."""
    named = ", ".join(map(str, pids[:NAMED])) + (" ..." if len(pids) > NAMED else "")
    return f"{len(pids)} forked process{'' if len(pids) == 1 else 'es'} ({named})"


def shown_command(command: Sequence[str]) -> str:
    """`command` for people, shortened."""
    text = " ".join(command)
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
