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
from .export_check import Counts, recorded_processes
from .nsight import Nsys
from .nsys_report import REPORT, STREAM, TRACE, export, make_report, no_ranges
from .passing import Until
from .processes import Finished, how_ended, last_line, run_process, to_terminal
from .stages import DOMAIN, MEASURED, RECORDER_VARIABLE

PROFILES: Final = ("none", "minimal", "deep")

LOST_SHARE: Final = 0.05
"""Share of launches without a device row above which a recording is said to have lost rows."""

GRAPH_TRACE: Final = "--cuda-graph-trace"
"""nsys's option for CUDA graphs; the user's own use of it replaces that of a profile."""

FORK_TRACE: Final = "--trace-fork-before-exec"
"""nsys's option to record processes that were only forked, such as workers of `multiprocessing`; likewise."""

OWN_LINES: Final = Until(b"Generating '", re.compile(rb"^Generating '[^'\n]*nsys-report-", re.MULTILINE))
"""How nsys 2022.4 to 2025.3 begin to speak when the program has ended; until then all that they relay is the program's."""

NAME_STAGES: Final = 'put `with stage("name"):` of aisp_trace.capture.stages around its steps, and results name them'
ONLY_PHASES: Final = (
    "the program opened no range of its own, so its stages are torch's calls: data, forward, backward, optimizer"
)

LOGS: Final = ("stdout", "stderr")

STARTUP_FAILURE: Final = "Connection reset by peer"
"""All that nsys 2022.4 says, rarely and under heavy load, when its own agent did not come up: nothing has run then."""

AGENT_FAILURE: Final = "Connection to the Agent lost."
"""All that nsys 2022.4 says, once or twice and with exit code 0, when its agent was lost before anything was recorded. Whether
the program had been started by then it does not say either."""

WAITER_FAILURE: Final = ("QuadDCommon::ProcessWaiter::", "] = sem_open")
"""Parts of all that nsys 2022.4 says when it loses a race with itself: its agent opens a semaphore that its launcher may not have
made yet. The launcher starts the program only when the agent tells it to, more than a second later, so nothing has run then."""

NAMED: Final = 6
"""Forked processes that are named one by one."""

STARTS: Final = 5
"""How often nsys is started while it fails by itself. On a busy machine one start in eight lost that race (7 of 52)."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One finished recording. `trace` and `kind_file` are names in its folder; `empty`: no range and no launch is in it."""

    exit_code: int
    wall_ns: int
    trace: str
    kind_file: str | None
    notes: tuple[str, ...]
    empty: bool = False


@dataclass(frozen=True, slots=True)
class NsysRecorder:
    """Records with `nsys` under `profile` ("minimal" or "deep"); `extra` are the user's own nsys arguments.

    `inherited` is the environment that the program and nsys start with; null: this process's.
    """

    nsys: Nsys
    profile: str
    device: str
    extra: tuple[str, ...] = ()
    inherited: Mapping[str, str] | None = None

    name: str = "nsys"

    @property
    def version(self) -> str:
        """The version of nsys."""
        return self.nsys.version

    def environment(self, folder: Path, gated: bool) -> dict[str, str]:
        """Variables the recorded program gets."""
        if not gated:  # a program that times its iterations does so here, too
            inherited = (os.environ if self.inherited is None else self.inherited).get("PYTHONPATH")
            return {ANSWER_VARIABLE: str(folder / ANSWER), **program.environment("nsys", inherited)}
        # Without the second, nsys compares `-p` with registered strings only, and matches none of ours by name.
        return {RECORDER_VARIABLE: "nsys", "NSYS_NVTX_PROFILER_REGISTER_ONLY": "0"}

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        """The command line that records `target` into `folder`; `gated` to the range `measured`."""
        options = profile_options(self.nsys, self.profile, self.device)
        if not gated and FORK_TRACE.removeprefix("--") in self.nsys.options:
            options.append(f"{FORK_TRACE}=true")
        for own in (GRAPH_TRACE, FORK_TRACE):
            if any(argument.startswith(own) for argument in self.extra):
                options = [option for option in options if not option.startswith(own)]
        if gated:
            options += ["-c", "nvtx", "-p", f"{MEASURED}@{DOMAIN}", "--capture-range-end=stop"]
        output = folder / REPORT.removesuffix(".nsys-rep")
        return (
            str(self.nsys.path),
            "profile",
            *options,
            "--force-overwrite=true",
            f"--output={output}",
            *self.extra,
            *target,
        )

    def record(
        self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float, shown: bool = False
    ) -> Recorded:
        """Record `target`; `folder` must exist. `gated`: it is a workload of ours and opens the range `measured`. `shown`: its
        output passes through.

        Raises `RecorderError` if no readable trace came of it, or, when gated, no range of ours is in it, and `WorkloadError`
        if a program of the user's failed before anything was recorded. When a workload of ours fails, only its exit code is
        returned: the failure is the news, not what was recorded of it.
        """
        for leftover in (TRACE, REPORT, STREAM):
            (folder / leftover).unlink(missing_ok=True)
        for _ in range(STARTS):
            done = self._profile(target, folder, gated, timeout_s, shown)
            if not _failed_itself(folder, done, gated):
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
        notes = _judge(counts, gated=gated, device=self.device, nsys=self.nsys)
        if done.forked and (lost := sorted(set(done.forked) - recorded_processes(folder / TRACE))):
            notes = (*notes, lost_workers(self.nsys, self.extra, lost))
        return Recorded(done.exit_code, done.wall_ns, TRACE, None, notes, empty)

    def _profile(
        self, target: Sequence[str], folder: Path, gated: bool, timeout_s: float, shown: bool = False
    ) -> Finished:
        out, err = folder / "nsys-profile.stdout.log", folder / "nsys-profile.stderr.log"
        inherited = os.environ if self.inherited is None else self.inherited
        environment = {**inherited, **self.environment(folder, gated)}
        try:
            done = run_process(
                self.command(target, folder, gated),
                stdout=out,
                stderr=err,
                timeout_s=timeout_s,
                environment=environment,
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


def _failed_itself(folder: Path, done: Finished, gated: bool) -> bool:
    """Whether nsys failed while it started, said so with nothing else in its logs, and the program may be run again."""
    said = "".join(
        (folder / f"nsys-profile.{name}.log").read_text(encoding="utf-8", errors="replace").strip() for name in LOGS
    )
    waiter = said.startswith("/") and said.endswith(WAITER_FAILURE[1]) and WAITER_FAILURE[0] in said
    if said == STARTUP_FAILURE or waiter:
        return done.exit_code != 0 and not _left_something(folder)
    return gated and bool(said) and not said.replace(AGENT_FAILURE, "").strip() and not _left_something(folder)


def _left_something(folder: Path) -> bool:
    return (folder / REPORT).exists() or (folder / STREAM).exists()


def _judge(counts: Counts, *, gated: bool, device: str, nsys: Nsys) -> tuple[str, ...]:
    """Notes on what the recording lacks; raises `RecorderError` if a workload of ours left no range in it."""
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
    if not gated and counts.ranges == 0:
        also = " and made no CUDA call, so there is nothing to analyze" if counts.launches == 0 else ""
        notes.append(f"the program opened no range{also}; {NAME_STAGES}")
    elif not gated and counts.ranges == counts.phases:
        notes.append(f"{ONLY_PHASES}; {NAME_STAGES}")
    return tuple(notes)


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
