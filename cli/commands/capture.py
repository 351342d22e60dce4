"""``aisp-trace capture``: from options to plans, from plans to runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from ...capture import host
from ...capture import plan as planning
from ...capture.capture import resume
from ...capture.lacking import without_nvtx
from ...capture.plan import DEFAULT_ROUNDS, DEFAULT_TIMEOUT_S
from ...capture.window import Window
from ...report.terminal import console
from ...report.terminal.look import AUTO, LOOK
from ...traces.errors import UsageError, WorkloadError
from ...traces.output import check_container
from ...traces.places import folder_for_new
from ...traces.run import RUNS_DIR
from ...workloads import catalog
from .. import every
from ..afterwards import forewarned
from ..app import COMMON, WithForeignCommand, examples, new_app, one_of
from ..emitting import task_called
from ..goals import deciding, refuse_unreadable
from ..mistakes import as_command, program_in
from ..options import workload_names
from ..plans import Options, builtin_plan, command_plan, file_plan, known_device, pair_plan
from ..programs import two_programs
from ..watching import progress_of

PAIR_OPTIONS: Final = ("optimized", "rung", "name", "timing")
"""Options that only mean something together with --baseline."""

WINDOW_OPTIONS: Final = ("delay", "duration", "start_on", "kill")
"""Options that say which part of a program is recorded."""

JOB_OPTIONS: Final = ("profile", "device", "recorder", "timeout", "nsys_arg", *WINDOW_OPTIONS)
"""Options that a job passes on to the recording of each rank."""

COMMAND_OPTIONS: Final = (
    "iterations",
    "rounds",
    "recordings",
    "variant",
    "size",
    "seed",
    "warmup",
    "decide",
    "budget",
    "task",
    "enable_kernel",
)
"""Options that have no meaning for a command of the user's own."""


app = new_app()


@app.command(
    cls=WithForeignCommand,
    epilog=examples(
        "capture pipeline_sequential",
        "capture my_workload.py --rounds 8  # a workload of your own",
        "capture memory_standard --decide --budget 4  # at most 4 minutes",
        "capture --baseline 'python slow.py' --optimized 'python fast.py'",
        "capture train.py --steps 10  # a script of yours, once, as it is",
        "capture -- python train.py --steps 10  # the same",
        "capture --delay 60 --duration 10 python serve.py  # it goes on",
    ),
)
def run(
    ctx: typer.Context,
    workload: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKLOAD|PROGRAM ...",
            help="Name from `aisp-trace list`, a .py file, or any program, whose own words follow it.",
            show_default=False,
            autocompletion=workload_names,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", **one_of("none", "minimal", "deep"), help="What to record; none: timings only.")
    ] = "minimal",
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Timed iterations per process.", metavar="N")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", help="Untraced rounds, each a fresh process.", metavar="N")
    ] = DEFAULT_ROUNDS,
    decide: Annotated[
        bool,
        typer.Option(
            "--decide",
            help="Run 12 to 40 rounds, until every claim on times is decided or one missed; those on recordings are for `check`.",
        ),
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            help="With --decide: minutes of rounds; too few for 12 rounds decide nothing.",
            metavar="MINUTES",
        ),
    ] = None,
    recordings: Annotated[
        int, typer.Option("--recordings", help="Recordings of each variant, each a fresh process.", metavar="N")
    ] = 1,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", metavar="NAME", help="Only this variant; may be repeated.")
    ] = None,
    size: Annotated[
        str, typer.Option("--size", **one_of("tiny", "default", "large"), help="How much work.")
    ] = "default",
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="NAME", help="Of generated_kernel: which, from `aisp-trace kernels list`."),
    ] = None,
    enable_kernel: Annotated[
        list[str] | None,
        typer.Option("--enable-kernel", metavar="NAME", help="Let a verified generated kernel run; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option("--device", **one_of("auto", "cpu", "cuda"), help="What it runs on.")] = "auto",
    recorder: Annotated[
        str, typer.Option("--recorder", **one_of("auto", "nsys", "torch"), help="What records it.")
    ] = "auto",
    output: Annotated[
        Path,
        typer.Option(
            "--output", help="Folder for the run; made if it does not exist, its parents are not.", metavar="DIR"
        ),
    ] = Path(RUNS_DIR),
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds one process may take.", metavar="S")
    ] = DEFAULT_TIMEOUT_S,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the inputs.", metavar="N")] = 0,
    warmup: Annotated[
        int | None, typer.Option("--warmup", help="Iterations before the timed ones.", metavar="N")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run nothing.")] = False,
    delay: Annotated[
        float, typer.Option("--delay", help="With a program: start recording S seconds after its launch.", metavar="S")
    ] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option("--duration", help="With a program: record for S seconds; it keeps running.", metavar="S"),
    ] = None,
    start_on: Annotated[
        str | None,
        typer.Option(
            "--start-on",
            help="With a program: record this NVTX range, from SIGUSR1 on, or between cudaProfilerStart and cudaProfilerStop.",
            metavar="RANGE|SIGUSR1|cudaProfilerApi",
        ),
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(
            "--ranks", help="With torchrun: record each of the N processes that it starts on this host.", metavar="N"
        ),
    ] = None,
    kill: Annotated[bool, typer.Option("--kill", help="With a program: end it when its recording ends.")] = False,
    resume_folder: Annotated[
        Path | None, typer.Option("--resume", help="Finish the unfinished run in this folder.", metavar="FOLDER")
    ] = None,
    nsys_arg: Annotated[
        list[str] | None, typer.Option("--nsys-arg", metavar="ARG", help="Passed on to nsys profile; may be repeated.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure how fast this machine's GPUs copy, and keep it. No run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing calibration.")] = False,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="A pair of your own: its first command.", metavar="CMD")
    ] = None,
    optimized: Annotated[
        str | None, typer.Option("--optimized", help="A pair of your own: its last command.", metavar="CMD")
    ] = None,
    rung: Annotated[
        list[str] | None,
        typer.Option(
            "--rung", help="A command between the two, one step of the change; may be repeated.", metavar="NAME=CMD"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What expectations call the pair.", metavar="NAME")] = None,
    timing: Annotated[
        str,
        typer.Option(
            "--timing",
            **one_of("auto", "iterations", "processes"),
            help="What times a pair; auto: iterations, else training steps, if all have them.",
        ),
    ] = "auto",
) -> int:
    """Record a program, or time and record a pair or a workload.

    Without WORKLOAD, every workload this machine can run. Each is timed in untraced rounds, all variants in
    alternating order, then each variant is recorded. `capture --baseline 'CMD' --optimized 'CMD'` does the same with
    two programs of your own, run without a shell. `capture PROGRAM ...` records one program once, unedited: a script,
    or any command line; its output passes through. Options of `capture` go before the program. --delay, --duration
    and --start-on record a part of it, such as ten seconds of a server under load; SIGUSR1 sent to `capture` also
    ends the recording. `capture --calibrate` measures how fast copies can be on this machine, which `analyze` then
    compares with.
    """
    if calibrate:
        _refuse_others(ctx, ("calibrate", "force", "output", "timeout"), "it records no run", "--calibrate")
        return _calibrate(output if _given(ctx, "output") else folder_for_new(Path.cwd()), force, timeout)
    if force:
        raise UsageError("--force replaces a calibration and was given without --calibrate; leave it out")
    if resume_folder is not None:
        _refuse_others(ctx, ("resume_folder", "timeout"), "--resume takes everything else from the unfinished run")
        with progress_of(None) as progress:
            made = resume(resume_folder, progress, timeout_s=timeout if _given(ctx, "timeout") else None)
        return every.show_runs([made])
    foreign = tuple(ctx.args)
    if ranks is not None:
        return _capture_job(ctx, ranks, foreign, output, timeout)
    options = Options(
        profile,
        iterations,
        rounds,
        tuple(variant or ()),
        size,
        device,
        recorder,
        timeout,
        seed,
        warmup,
        nsys_arg or (),
        recordings,
        task,
        tuple(task_called(name).name for name in enable_kernel or ()),
    )
    if baseline is not None:
        _refuse_in_pair(ctx, workload, foreign)
        plans = [pair_plan(baseline, rung or (), optimized, name, timing, options)]
    elif extra := _first_given(ctx, PAIR_OPTIONS):
        raise UsageError(f"{extra} was given without --baseline; a pair of commands needs --baseline and --optimized")
    elif not foreign and (extra := _first_given(ctx, WINDOW_OPTIONS)):
        raise UsageError(f"{extra} was given without a program, of which it records a part; name one, or leave it out")
    elif foreign:
        if workload is not None:
            raise UsageError(f"both the workload {workload!r} and a command were given; give one of them")
        if extra := _first_given(ctx, COMMAND_OPTIONS):
            raise UsageError(
                f"{extra} was given with a command of your own, which runs once and as it is; leave it out"
            )
        window = Window(delay, duration, start_on, kill) if _first_given(ctx, WINDOW_OPTIONS) else None
        plans = [command_plan(foreign, options, window)]
    elif task is not None and (workload is None or workload.endswith(".py")):
        raise UsageError("--task was given without a workload that has tasks; name generated_kernel, or leave it out")
    elif workload is None:
        known_device(device)
        runnable, reasons = every.able(catalog.CATALOG, device, host.usable_gpus())
        for reason in reasons:
            (console.remark if runnable else console.warn)(reason)
        if not runnable:
            raise UsageError(f"no workload can run on {device} here, as said above; choose another --device")
        plans = [builtin_plan(entry, options) for entry in runnable]
    elif workload.endswith(".py"):
        plans = [file_plan(Path(workload), options)]
    else:
        plans = [builtin_plan(_found(workload), options)]
    if decide and _given(ctx, "rounds"):
        raise UsageError(
            "--rounds and --decide were given; --rounds fixes how many rounds run, --decide finds out: give one"
        )
    if budget is not None and not decide:
        raise UsageError("--budget was given without --decide, which it limits; give both, or --rounds")
    refuse_unreadable(plans)
    if decide:
        plans = [deciding(plan, None if budget is None else budget * 60) for plan in plans]
    for plan in plans:
        planning.check_plan(plan)
    check_container(output, "--output")
    if dry_run:
        for plan in plans:
            for line in planning.describe(plan, output / f"{planning.run_name(plan)}-<time>"):
                console.say(line)
        return 0
    if foreign and (meant := two_programs(foreign)):
        console.remark(meant)
    for sentence in filter(None, (said(plan) for plan in plans for said in (forewarned, without_nvtx))):
        console.remark(sentence)
    try:
        return every.show_runs(every.capture_each(plans, output))
    except WorkloadError as exc:
        ours = [word for word in foreign if word in {opt for one in ctx.command.params for opt in one.opts}]
        if not ours:
            raise
        raise WorkloadError(
            f"{exc}; {ours[0]} behind the program is the program's: if `capture` is meant, put it before"
        ) from exc


def _found(name: str) -> catalog.Entry:
    """The workload called `name`; raises `UsageError` if there is none, and says what to type if it is a program."""
    file = Path(f"{name}.py")
    if catalog.known(name) is None and (file.is_file() or program_in([name])):
        meant = as_command([str(file) if file.is_file() else name])
        raise UsageError(f"no workload is called {name!r}; to record a program as it is: {meant}")
    return catalog.find(name)


def _calibrate(folder: Path, force: bool, timeout_s: float) -> int:
    from ...capture import calibrate
    from ...report.terminal.calibration import print_calibration

    check_container(folder, "--output")
    calibration = calibrate.measure(timeout_s, console.say)
    print_calibration(calibration)
    console.say(f"calibration: {calibrate.store(calibration, folder, force=force, say=console.say)}")
    return 0


def _refuse_in_pair(ctx: typer.Context, workload: str | None, foreign: Sequence[str]) -> None:
    if workload is not None or foreign:
        what = "a command after --" if workload is None else f"the workload {workload!r}"
        raise UsageError(f"both --baseline and {what} were given; give one of them")
    timed = ("rounds", "recordings", "decide", "budget")
    if extra := _first_given(ctx, [name for name in COMMAND_OPTIONS if name not in timed]):
        raise UsageError(f"{extra} was given with --baseline, whose commands are run as they are; leave it out")


def _refuse_others(ctx: typer.Context, allowed: Sequence[str], why: str, option: str = "--resume") -> None:
    extra = _first_given(ctx, [name for name in ctx.params if name not in allowed])
    if extra or ctx.args:
        what = "a workload" if extra == "workload" else extra or "a command"
        raise UsageError(f"{what} was given together with {option}, but {why}; leave it out")


def _capture_job(ctx: typer.Context, ranks: int, foreign: tuple[str, ...], output: Path, timeout: float) -> int:
    """Record each rank of a launcher into a folder of the job, with what was given for all of them."""
    from ...capture.job import LAUNCHED_BY, capture_job, python_of_ranks

    if not foreign:
        raise UsageError(
            "--ranks was given without a launcher; write `capture --ranks 8 -- torchrun --nproc-per-node 8 ...`"
        )
    options = ["--quiet"] if LOOK.quiet else []
    options += [] if LOOK.colour == AUTO else [f"--color={LOOK.colour}"]
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if not _given(ctx, name) or name in (*COMMON, "ranks", "output", "workload", "dry_run"):
            continue
        if name not in JOB_OPTIONS:
            raise UsageError(f"{parameter.opts[0]} was given with --ranks, which records each rank once; leave it out")
        value = ctx.params[name]
        for one in value if isinstance(value, (list, tuple)) else [value]:
            options += [f"{parameter.opts[0]}={one}"] if one is not True else [parameter.opts[0]]
    folder = output if _given(ctx, "output") else output / f"job-{time.strftime('%Y%m%d-%H%M%S')}"
    if ctx.params["dry_run"]:
        for line in (
            f"# {LAUNCHED_BY} starts each rank as",
            python_of_ranks(foreign, folder, options),
            shlex.join(foreign),
        ):
            console.say(line)
        return 0
    job = capture_job(ranks, foreign, folder, options, timeout)
    for rank, path in job.runs.items():
        console.say(f"rank {rank}: {path}")
    if len(job.runs) < ranks:
        console.warn(f"{len(job.runs)} of {ranks} ranks were recorded; what the others said stands above")
    console.say(f"next: aisp-trace ranks {folder}")
    return 0 if job.exit_code == 0 and len(job.runs) == ranks else 2


def _first_given(ctx: typer.Context, names: Sequence[str]) -> str | None:
    """The first of the parameters `names` that was given, as it is typed; null if none was."""
    typed = {parameter.name: parameter.opts[0] for parameter in ctx.command.params}
    return next((typed[name] for name in names if _given(ctx, name)), None)


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
