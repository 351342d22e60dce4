"""The recorder nsys: run a program under Nsight Systems and keep a scrubbed SQLite export of what it saw.

Four steps, each with its own log file in the recording's folder:

    nsys profile     -> trace.nsys-rep (or, where nsys finds no importer, trace.qdstrm)
    QdstrmImporter   -> trace.nsys-rep, only if the first step left a bare stream
    nsys export      -> an SQLite file holding the environment of every process
    scrub            -> trace.sqlite without it; the unscrubbed export is deleted

Then the export is checked for what nsys loses silently: ranges, and device rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError
from .answer import ANSWER, ANSWER_VARIABLE
from .export_check import Counts, count_rows
from .nsight import Nsys
from .processes import Finished, last_line, run_process
from .stages import DOMAIN, MEASURED, RECORDER_VARIABLE

PROFILES: Final = ("none", "minimal", "deep")

TRACE: Final = "trace.sqlite"
REPORT: Final = "trace.nsys-rep"
STREAM: Final = "trace.qdstrm"

EXPORT_TIMEOUT_S: Final = 900.0
"""Importing and exporting are not the program's time; GPU metrics of minutes have taken minutes."""

LOST_SHARE: Final = 0.05
"""Share of launches without a device row above which a recording is said to have lost rows."""

GRAPH_TRACE: Final = "--cuda-graph-trace"
"""nsys's option for CUDA graphs; the user's own use of it replaces that of a profile."""

LOGS: Final = ("stdout", "stderr")

STARTUP_FAILURE: Final = "Connection reset by peer"
"""All that nsys 2022.4 says, rarely and under heavy load, when its own agent did not come up: nothing has run then."""

AGENT_FAILURE: Final = "Connection to the Agent lost."
"""All that nsys 2022.4 says, once or twice and with exit code 0, when its agent was lost before anything was recorded. Whether
the program had been started by then it does not say either."""

WAITER_FAILURE: Final = ("QuadDCommon::ProcessWaiter::", "] = sem_open")
"""Parts of all that nsys 2022.4 says when it loses a race with itself: its agent opens a semaphore that its launcher may not have
made yet. The launcher starts the program only when the agent tells it to, more than a second later, so nothing has run then."""

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
        if not gated:
            return {ANSWER_VARIABLE: str(folder / ANSWER)}  # a program that times its iterations does so here, too
        # Without the second, nsys compares `-p` with registered strings only, and matches none of ours by name.
        return {RECORDER_VARIABLE: "nsys", "NSYS_NVTX_PROFILER_REGISTER_ONLY": "0"}

    def command(self, target: Sequence[str], folder: Path, gated: bool) -> tuple[str, ...]:
        """The command line that records `target` into `folder`; `gated` to the range `measured`."""
        options = profile_options(self.nsys, self.profile, self.device)
        if any(argument.startswith(GRAPH_TRACE) for argument in self.extra):
            options = [option for option in options if not option.startswith(GRAPH_TRACE)]
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

    def record(self, target: Sequence[str], folder: Path, *, gated: bool, timeout_s: float) -> Recorded:
        """Record `target`; `folder` must exist. `gated`: it is a workload of ours and opens the range `measured`.

        Raises `RecorderError` if no readable trace came of it, or, when gated, no range of ours is in it. When a
        workload of ours fails, only its exit code is returned: the failure is the news, not what was recorded of it.
        """
        for leftover in (TRACE, REPORT, STREAM):
            (folder / leftover).unlink(missing_ok=True)
        for _ in range(STARTS):
            done = self._profile(target, folder, gated, timeout_s)
            if not _failed_itself(folder, done, gated):
                break
        if gated and done.exit_code != 0:
            return Recorded(done.exit_code, done.wall_ns, TRACE, None, ())
        self._make_report(folder, done, gated)
        counts = self._export(folder)
        if done.exit_code != 0 and counts.ranges == 0 and counts.launches == 0:
            raise RecorderError(
                f"{_shown(target)} ended with exit code {done.exit_code} before anything was recorded of it; "
                f"see the logs in {folder}"
            )
        notes = _judge(counts, gated=gated, device=self.device, nsys=self.nsys)
        empty = counts.launches == 0 and counts.ranges == 0
        return Recorded(done.exit_code, done.wall_ns, TRACE, None, notes, empty)

    def _profile(self, target: Sequence[str], folder: Path, gated: bool, timeout_s: float) -> Finished:
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
            )
        except OSError as exc:
            raise RecorderError(f"{self.nsys.path} cannot be started: {exc}; see `aisp-trace doctor`") from exc
        if done.timed_out:
            raise RecorderError(
                f"the recording of {_shown(target)} did not end within {timeout_s:g} s and was stopped with all its "
                f"processes; give it longer with --timeout, and see {err} for how far it came"
            )
        return done

    def _make_report(self, folder: Path, done: Finished, gated: bool) -> None:
        if (folder / REPORT).is_file():
            return
        said = last_line(folder / "nsys-profile.stderr.log") or last_line(folder / "nsys-profile.stdout.log")
        if not (folder / STREAM).is_file():
            if gated:  # the range that opens the recording was never seen
                raise RecorderError(_no_ranges(self.nsys))
            raise RecorderError(
                f"nsys recorded nothing and ended with exit code {done.exit_code} ({said or 'without a word'}); "
                f"see the logs in {folder}"
            )
        importer = self.nsys.importer
        if importer is None or importer.problem is not None:
            raise RecorderError(
                f"nsys left only {folder / STREAM}, and it cannot be made a report: {self.nsys.problem}"
            )
        command = [str(importer.path), "-i", str(folder / STREAM), "-o", str(folder / REPORT)]
        imported = _step(command, folder, "nsys-import", {**os.environ, **importer.environment()})
        if not (folder / REPORT).is_file():
            said = last_line(folder / "nsys-import.stderr.log") or last_line(folder / "nsys-import.stdout.log")
            raise RecorderError(
                f"{importer.path} could not make a report of {folder / STREAM} (exit code {imported.exit_code}: {said})"
                f"; see the logs in {folder}"
            )
        (folder / STREAM).unlink()

    def _export(self, folder: Path) -> Counts:
        from ..traces.scrub.nsys import scrub_sqlite  # lazily: only recording needs it

        raw = folder / "unscrubbed.sqlite"
        try:
            export_report(self.nsys, folder / REPORT, raw, folder)
            counts = count_rows(raw)
            scrub_sqlite(raw, folder / TRACE)
        finally:
            for name in (raw, Path(f"{raw}-wal"), Path(f"{raw}-shm"), Path(f"{raw}-journal")):
                name.unlink(missing_ok=True)
        return counts


def export_report(nsys: Nsys, report: Path, sqlite: Path, logs: Path) -> None:
    """Export `report` to `sqlite` (overwritten), unscrubbed. Raises `RecorderError` if no file came of it."""
    sqlite.unlink(missing_ok=True)
    command = [str(nsys.path), "export", "--type=sqlite", "--force-overwrite=true", "-o", str(sqlite), str(report)]
    done = _step(command, logs, "nsys-export", os.environ)
    if not sqlite.is_file():
        said = last_line(logs / "nsys-export.stderr.log") or last_line(logs / "nsys-export.stdout.log")
        raise RecorderError(
            f"{nsys.path} {nsys.version} could not export {report} (exit code {done.exit_code}: {said}); a report made "
            f"by a newer nsys needs that one: name it in AISP_NSYS"
        )


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


def _step(command: Sequence[str], logs: Path, name: str, environment: Mapping[str, str]) -> Finished:
    try:
        done = run_process(
            command,
            stdout=logs / f"{name}.stdout.log",
            stderr=logs / f"{name}.stderr.log",
            timeout_s=EXPORT_TIMEOUT_S,
            environment=environment,
        )
    except OSError as exc:
        raise RecorderError(f"{command[0]} cannot be started: {exc}; see `aisp-trace doctor`") from exc
    if done.timed_out:
        raise RecorderError(f"{name} did not end within {EXPORT_TIMEOUT_S:g} s; see the logs in {logs}")
    return done


def _judge(counts: Counts, *, gated: bool, device: str, nsys: Nsys) -> tuple[str, ...]:
    """Notes on what the recording lacks; raises `RecorderError` if a workload of ours left no range in it."""
    if gated and counts.own_ranges == 0:
        raise RecorderError(_no_ranges(nsys))
    notes = []
    if counts.launches and counts.without_row > LOST_SHARE * counts.launches:
        notes.append(
            f"{counts.without_row} of {counts.launches} launches have no row of the device: nsys {nsys.version} may be "
            f"too old for this driver, and sums of device time are too small"
        )
    if gated and device == "cuda" and counts.launches == 0:
        notes.append("the workload ran on the GPU, yet no launch was recorded: device times are missing")
    if not gated and counts.launches == 0 and counts.ranges == 0:
        notes.append("neither an NVTX range nor a CUDA launch was recorded: there may be nothing to analyze")
    return tuple(notes)


def _no_ranges(nsys: Nsys) -> str:
    import importlib.metadata  # lazily: it costs more than the rest of this module

    try:
        nvtx = importlib.metadata.version("nvtx")
    except importlib.metadata.PackageNotFoundError:
        nvtx = "(not installed)"
    return (
        f"nsys {nsys.version} recorded no ranges of domain {DOMAIN!r}; the installed nvtx is {nvtx}, and nvtx 0.2.12 and "
        f"later record nothing under nsys 2022.4 and 2023.4: `pip install nvtx==0.2.11`, or record with a newer nsys"
    )


def _shown(command: Sequence[str]) -> str:
    text = " ".join(command)
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
