"""Carrying out a plan: rounds, recordings, comparison, manifest, and the run folder renamed into place.

    capture(plan, Path("aisp-runs"))  ->  aisp-runs/pipeline_sequential-20261122T170102Z

Whatever stops a capture (a failure, Ctrl-C) leaves ``.partial-<run>`` with all steps that ended well; `resume` does the
rest. A command of the user's own is a single step: it leaves nothing, unless a recorder's logs are needed to see what it
lacked. No process started here outlives it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..traces.errors import InputError, RecorderError, WorkloadError
from ..traces.output import is_disk_error, reason
from ..traces.run import HARNESS, SCHEMA, Hardware, Manifest, ProcessResult, Recording, Round, Variant, again_folder
from . import host, pair_rounds
from .answer import ANSWER
from .compare import differences
from .folder import PartialRun, begin, load_result, portable, rank_here, reopen
from .leftovers import after_grace, sentence
from .nsys import Recorded, no_nvtx
from .plan import Plan, check_plan, per_round, recorder_for, recordings, script_of, workload_command
from .processes import GRACE_S, how_ended, interruptible
from .progress import Progress
from .recorders import Recorder
from .rounds import check_exit, run_rounds, source_folder, sources_now
from .running import Running


def capture(plan: Plan, output: Path, progress: Callable[[str, int], Progress] = Progress) -> Path:
    """Carry out `plan`; returns the complete run's folder under `output`.

    Raises `UsageError` for a plan that cannot be carried out, `RecorderError` or `WorkloadError` for what failed; their
    message ends with how to resume.
    """
    check_plan(plan)
    recorder = recorder_for(plan)  # before anything is written: a missing recorder is not an unfinished run
    return _carry_out(begin(plan, output), recorder, progress)


def resume(
    folder: Path, progress: Callable[[str, int], Progress] = Progress, *, timeout_s: float | None = None
) -> Path:
    """Finish the unfinished run in `folder`; returns the complete run's folder. Raises as `capture` does.

    `timeout_s` replaces the plan's: it is not part of what is measured, and a process that ran out of it would do so again.
    """
    run = reopen(folder)
    if timeout_s is not None:
        plan = check_plan(dataclasses.replace(run.plan, timeout_s=timeout_s))
        run = dataclasses.replace(run, plan=plan)
    pair_rounds.check_folder(run.plan)
    return _carry_out(run, recorder_for(run.plan), progress)


def _carry_out(run: PartialRun, recorder: Recorder | None, progress: Callable[[str, int], Progress]) -> Path:
    plan = run.plan
    going_on: list[Running] = []
    first = plan.looks[0] if plan.looks else plan.rounds
    shown = progress(plan.workload, first * per_round(plan) + (len(recordings(plan)) if recorder is not None else 0))
    try:
        with interruptible(), _ended_on_failure(going_on):
            beside = [sentence(left)] if (left := after_grace(2 * GRACE_S)) else []
            for line in [*beside, *(f"[{plan.workload}] note: {note}" for note in plan.notes)]:
                shown.say(line)
            state = _sources(plan)
            hardware = host.hardware(plan.device)
            pair = plan.source == "pair"
            rounds = [] if pair else run_rounds(run, state, shown)
            commands = pair_rounds.run_commands(run, state, shown) if pair else []
            variants = _record_all(run, recorder, state, shown, going_on)
            manifest = _manifest(run, state, _clocks_after(hardware), rounds, variants)
            if pair:
                manifest = pair_rounds.with_commands(manifest, commands, plan)
            manifest = dataclasses.replace(manifest, notes=(*manifest.notes, *beside))
            path = run.finish(manifest)
    except (RecorderError, WorkloadError) as exc:
        if plan.source == "command":  # nothing to go on from: it runs once, from its beginning
            if isinstance(exc, WorkloadError):
                run.discard()
            raise
        raise type(exc)(f"{exc}; then go on with `aisp-trace capture --resume {run.path}`") from exc
    except OSError as exc:
        if not is_disk_error(exc):
            raise
        raise InputError(
            f"the run cannot be written to {run.path}: {reason(exc)}; make room, then go on with "
            f"`aisp-trace capture --resume {run.path}`"
        ) from exc
    except KeyboardInterrupt:
        if plan.source == "command":
            run.discard()
            shown.urge("interrupted, and nothing is kept of it")
        else:
            shown.urge(f"interrupted; go on with `aisp-trace capture --resume {run.path}`")
        raise
    shown.finish()
    for note in manifest.notes[len(plan.notes) :]:  # those of the plan were said at the start
        shown.say(f"[{plan.workload}] note: {note}")
    for program in going_on:
        _see_to_its_end(program, path, shown)
    return path


@contextlib.contextmanager
def _ended_on_failure(programs: Sequence[Running]) -> Iterator[None]:
    """Programs of which a part was recorded end with a capture that fails, whatever it fails by."""
    try:
        yield
    except BaseException:
        for program in programs:
            program.close()
        raise


def _see_to_its_end(program: Running, run: Path, shown: Progress) -> None:
    """Wait for a program that goes on after its recording; whatever becomes of it, the run is complete."""
    try:
        if program.exit_code is None:
            shown.say(f"the run is complete: {run}; the program goes on, and Ctrl-C ends it")
            shown.say(f"the program {how_ended(program.wait())}")
    finally:
        program.close()


def _record_all(
    run: PartialRun, recorder: Recorder | None, state: Mapping[str, Any], progress: Progress, going_on: list[Running]
) -> list[Variant]:
    """`going_on` gets the programs of which a part was recorded."""
    made: dict[str, list[Recording]] = {name: [] for name in run.plan.names}
    for number, name in recordings(run.plan) if recorder is not None else ():
        assert recorder is not None
        if number and not made[name]:
            continue  # what left nothing to analyse once does so again
        recording = _record(run, recorder, name, number, state, progress, going_on)
        if recording is not None:
            made[name].append(recording)
    return [
        Variant(v.name, v.description, next(iter(made[v.name]), None), v.changes, made[v.name][1:])
        for v in run.plan.variants
    ]


def _record(
    run: PartialRun,
    recorder: Recorder,
    name: str,
    number: int,
    state: Mapping[str, Any],
    progress: Progress,
    going_on: list[Running],
) -> Recording | None:
    """Traced process `number` of variant `name`, or what is kept of it; null where a pair's left nothing to analyse."""
    plan = run.plan
    foreign = plan.foreign
    folder = run.path / name / again_folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    target = workload_command(plan, [name], folder / "traced.json", traced=True)
    command = portable(recorder.command(target, folder, gated=not foreign), run.path)
    several = f" ({number + 1}/{plan.recordings})" if plan.recordings > 1 else ""
    what = "the command" if plan.source == "command" else name
    label = f"recording {what}{several} with {recorder.name} {recorder.version}"
    step = f"trace-{name}-{number}" if number else f"trace-{name}"
    kept = run.recall(step, Recording, state)
    if kept is not None and kept.command == command and (run.path / kept.trace).is_file():
        progress.skip(label)
        return kept
    progress.step(label)
    for leftover in ("traced.json", ANSWER):
        (folder / leftover).unlink(missing_ok=True)
    commit, tree = sources_now(plan)
    recorded = _start(plan, recorder, target, folder)
    if recorded.running is not None:
        going_on.append(recorded.running)
    result, notes = _traced_result(plan, name, folder, recorded)
    answer = pair_rounds.traced_answer(plan, name, folder, recorded) if plan.source == "pair" else None
    if plan.source == "pair" and recorded.empty:
        (folder / recorded.trace).unlink(missing_ok=True)
        return None

    def inside(file: str) -> str:
        return (folder / file).relative_to(run.path).as_posix()

    recording = Recording(
        recorder=recorder.name,
        recorder_version=recorder.version,
        command=command,
        exit_code=recorded.exit_code,
        wall_ns=recorded.wall_ns,
        trace=inside(recorded.trace),
        kind_file=None if recorded.kind_file is None else inside(recorded.kind_file),
        result=result,
        notes=(*recorded.notes, *notes),
        answer=answer,
        commit=commit,
        tree=tree,
        trace_sha256=_digest(folder / recorded.trace),
        empty=recorded.empty,
    )
    run.remember(step, recording, state)
    return recording


def _digest(trace: Path) -> str:
    with trace.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _start(plan: Plan, recorder: Recorder, target: Sequence[str], folder: Path) -> Recorded:
    try:
        shown = plan.source == "command"
        return recorder.record(target, folder, gated=not plan.foreign, timeout_s=plan.timeout_s, shown=shown)
    except OSError as exc:
        raise WorkloadError(f"{plan.workload} cannot be started: {exc}") from exc


def _traced_result(
    plan: Plan, name: str, folder: Path, recorded: Recorded
) -> tuple[ProcessResult | None, tuple[str, ...]]:
    """(what the traced process answered, notes): a user's command answers nothing, and its failure is only noted."""
    if plan.foreign:
        if recorded.exit_code == 0 or plan.source == "pair":
            return None, ()
        return None, (f"the command {how_ended(recorded.exit_code)}; what was recorded until then is kept",)
    logs = sorted(folder.glob("*.stderr.log"), key=lambda log: log.name != "nsys-profile.stderr.log")
    check_exit(plan.workload, recorded.exit_code, logs[0] if logs else folder)
    result = load_result(folder / "traced.json", plan, [name])
    ranks = result.facts.get("ranks", 1)
    if recorded.kind_file is not None and ranks != 1:  # only the torch recorder needs that file
        return result, (f"torch.profiler records one process: the trace holds rank 0 of {ranks}; nsys records all",)
    return result, ()


def _manifest(
    run: PartialRun,
    state: Mapping[str, Any],
    hardware: Hardware,
    rounds: Sequence[Round],
    variants: Sequence[Variant],
) -> Manifest:
    plan = run.plan
    labelled = [(f"round {r.index}", r.result) for r in rounds]
    traced = [(v.name, made) for v in variants for made in v.recordings]
    labelled += [(f"the traced process of {name}", r.result) for name, r in traced if r.result is not None]
    notes = [*plan.notes, *differences(labelled)]
    notes += _of_recordings(traced)
    notes += no_nvtx(run.path, plan.names)
    rank, ranks = (rank_here(os.environ) if plan.source == "command" else None) or (None, None)
    return Manifest(
        schema=SCHEMA,
        run_id=run.run_id,
        created_utc=host.now_utc(),
        workload=plan.workload,
        source=plan.source,
        command_line=portable(plan.command_line, run.path),
        profile=plan.profile,
        recorder=plan.recorder,
        hardware=hardware,
        size=plan.size,
        seed=plan.seed,
        iterations=plan.iterations,
        warmup=plan.warmup,
        packages=state["packages"],
        git=state["git"],
        variants=variants,
        rounds=rounds,
        notes=notes,
        looks=plan.looks,
        resumed_utc=run.resumed(),
        harness=1 if plan.foreign else HARNESS,
        rank=rank,
        ranks=ranks,
        script=script_of(plan),
    )


def _of_recordings(traced: Sequence[tuple[str, Recording]]) -> list[str]:
    """What recorders said, each sentence once, after the names of the variants that it is of."""
    whose: dict[str, list[str]] = {}
    for name, recording in traced:
        for note in recording.notes:
            names = whose.setdefault(note, [])
            names += [] if name in names else [name]
    return [f"{' and '.join(names)}: {note}" for note, names in whose.items()]


def _sources(plan: Plan) -> dict[str, Any]:
    """What must not change between the steps of one run: the commit of the sources, and the packages' versions."""
    folder, root = source_folder(plan)
    git = host.git_state(folder, root=root)
    sources = {"git": git, "packages": host.package_versions()}
    return {**sources, "files": pair_rounds.file_digests(plan)} if plan.source == "pair" else sources


def _clocks_after(hardware: Hardware) -> Hardware:
    if not hardware.gpus:
        return hardware
    return dataclasses.replace(hardware, clocks={**hardware.clocks, "after": host.clocks()})
