"""Capturing several workloads one after the other: which can run here, how far it is, and what came of it.

A workload that fails does not keep the others from being made, and an interrupt leaves those that are complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..capture.capture import capture
from ..capture.plan import Plan
from ..capture.progress import seconds
from ..report.terminal import console
from ..report.terminal.look import LOOK
from ..traces.errors import RecorderError, WorkloadError
from ..traces.run import Run, load_run
from ..workloads.catalog import Entry, devices_here
from .afterwards import following, is_empty, measured
from .watching import progress_of


def device_for(entry: Entry, asked: str, gpus: int) -> str:
    """The device `entry` would run on where it is not said (`asked` is "auto"): CUDA if it has it and there is any GPU."""
    if asked != "auto":
        return asked
    return "cuda" if "cuda" in entry.devices and gpus else entry.devices[0] if "cpu" not in entry.devices else "cpu"


def able(entries: Iterable[Entry], asked: str, gpus: int) -> tuple[list[Entry], list[str]]:
    """(those that can run on device `asked` of a machine with `gpus` GPUs, a sentence for each of the others)."""
    runnable, reasons = [], []
    for entry in entries:
        if entry.tasks:
            reasons.append(f"{entry.name} is left out: it needs a task; `aisp-trace capture {entry.name} --task NAME`")
            continue
        device = device_for(entry, asked, gpus)
        unmet = entry.unmet(device, gpus)
        if unmet:
            instead = devices_here(entry, gpus)
            remedy = f"; `aisp-trace capture {entry.name} --device {instead[0]}` would" if instead else ""
            reasons.append(f"{entry.name} is left out: {unmet}{remedy}")
        else:
            runnable.append(entry)
    return runnable, reasons


def capture_each(
    plans: Sequence[Plan],
    output: Path,
    *,
    clock: Callable[[], float] = time.monotonic,
    make: Callable[..., Path] = capture,
) -> list[Path]:
    """The run folders of all plans, in order; how far it is goes to stderr.

    One that fails does not keep the others from being made: each failure is reported at once, and at the end
    `WorkloadError` is raised, after `summary` of the complete ones was printed. `KeyboardInterrupt` likewise says
    what is complete and what was not begun. A single plan's failure is raised as it is.
    """
    if len(plans) == 1:
        return [_made(plans[0], output, make)]
    made: list[Path] = []
    failed: list[str] = []
    begun, done, whole = clock(), 0, sum(map(_steps, plans))
    for number, plan in enumerate(plans):
        left = f", about {seconds((clock() - begun) / done * (whole - done))} left for all" if done else ""
        console.remark(f"workload {number + 1} of {len(plans)}: {plan.workload}{left}")
        try:
            made.append(_made(plan, output, make))
        except (RecorderError, WorkloadError) as exc:
            failed.append(plan.workload)
            console.warn(str(exc))
        except KeyboardInterrupt:
            _show(made)
            later = ", ".join(p.workload for p in plans[number + 1 :]) or "none"
            console.warn(f"interrupted in {plan.workload}; complete: {len(made)} of {len(plans)}; not begun: {later}")
            raise
        done += _steps(plan)
    if failed:
        _show(made)
        raise WorkloadError(
            f"{len(failed)} of {len(plans)} workloads failed ({', '.join(failed)}); the sentences above say why, "
            f"the {len(made)} others are complete"
        )
    return made


def _made(plan: Plan, output: Path, make: Callable[..., Path]) -> Path:
    with progress_of(plan) as progress:
        return make(plan, output, progress)


def show_runs(runs: Sequence[Path]) -> int:
    """Say where the runs are and what to do next; several get a table first.

    Returns the exit code: 0, or 2 where a program of the user's failed, whatever was recorded of it.
    """
    loaded = _show(runs)
    return WorkloadError.exit_code if any(map(_program_failed, loaded)) else 0


def _program_failed(run: Run) -> bool:
    manifest = run.manifest
    return manifest.source == "command" and any(v.recording and v.recording.exit_code for v in manifest.variants)


def _show(paths: Sequence[Path]) -> list[Run]:
    runs = [load_run(path) for path in paths]
    if len(runs) > 1:
        from ..report.terminal.captured import summary

        console.say_lines(summary(runs))
        console.say()
    for run in runs:
        try:
            shown = run.path.relative_to(Path.cwd())
        except ValueError:
            shown = run.path
        console.say(f"run: {shown}")
        if is_empty(run):
            console.say("nothing was recorded: the note above says why, and what to do")
        elif len(runs) == 1 and not LOOK.quiet:
            for line in measured(run):
                console.say(line)
            for line in following(run, str(shown)):
                console.say(line)
    if len(runs) > 1 and not LOOK.quiet:
        console.say("next: aisp-trace check RUN, for the verdict on each")
    return runs


def _steps(plan: Plan) -> int:
    """Processes that a plan starts."""
    per_round = len(plan.variants) if plan.process_per_variant else 1
    return plan.rounds * per_round + (len(plan.variants) if plan.recorder is not None else 0)
