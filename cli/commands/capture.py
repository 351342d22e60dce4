"""``aisp-trace capture``: from options to plans, from plans to runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer

from ...capture import host
from ...capture import plan as planning
from ...capture.capture import resume
from ...capture.pair import require_program
from ...capture.plan import DEFAULT_ROUNDS, DEFAULT_TIMEOUT_S, Plan, PlannedVariant
from ...capture.recorders import choose_recorder
from ...traces.content import file_name
from ...traces.errors import UsageError
from ...traces.output import check_container
from ...traces.run import RUNS_DIR, nearest
from ...workloads import catalog
from .. import calibration, console, every, pairs

FILE_VARIANTS: Final = (("baseline", ""), ("optimized", ""))
"""The variants a workload in a user's file is taken to have when --variant names none."""

FILE_ITERATIONS: Final = 10
FILE_WARMUP: Final = 3
"""Iterations of a workload in a user's file; workloads of ours say their own in the catalog."""

PAIR_OPTIONS: Final = ("optimized", "rung", "name", "timing")
"""Options that only mean something together with --baseline."""

COMMAND_OPTIONS: Final = ("iterations", "rounds", "variant", "size", "seed", "warmup")
"""Options that have no meaning for a command of the user's own."""


def run(
    ctx: typer.Context,
    workload: Annotated[
        str | None,
        typer.Argument(metavar="[WORKLOAD]", help="Name from `aisp-trace list`, or a .py file.", show_default=False),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", metavar="none|minimal|deep", help="What to record; none: timings only.")
    ] = "minimal",
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Timed iterations per process.", metavar="N")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", help="Untraced rounds, each a fresh process.", metavar="N")
    ] = DEFAULT_ROUNDS,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", metavar="NAME", help="Only this variant; may be repeated.")
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="tiny|default|large", help="How much work.")] = "default",
    device: Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="What it runs on.")] = "auto",
    recorder: Annotated[str, typer.Option("--recorder", metavar="auto|nsys|torch", help="What records it.")] = "auto",
    output: Annotated[
        Path,
        typer.Option("--output", help="Folder that gets the run; made if need be, not those above it.", metavar="DIR"),
    ] = Path(RUNS_DIR),
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds one process may take.", metavar="S")
    ] = DEFAULT_TIMEOUT_S,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the inputs.", metavar="N")] = 0,
    warmup: Annotated[
        int | None, typer.Option("--warmup", help="Iterations before the timed ones.", metavar="N")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run nothing.")] = False,
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
            metavar="auto|iterations|processes",
            help="What times a pair; auto: iterations if all have them.",
        ),
    ] = "auto",
) -> int:
    """Run a workload and record it into a run folder.

    Without WORKLOAD, every workload this machine can run. Each is timed in untraced rounds, all variants in
    alternating order, then recorded once per variant. `capture --baseline 'CMD' --optimized 'CMD'` does the same with two
    programs of your own, run without a shell. `capture -- COMMAND ...` records one once. Both need nsys to record.
    `capture --calibrate` measures how fast copies can be on this machine, which `analyze` then compares with.
    """
    if calibrate:
        _refuse_others(ctx, ("calibrate", "force", "output", "timeout"), "it records no run", "--calibrate")
        return calibration.run(output if _given(ctx, "output") else None, force=force, timeout_s=timeout)
    if force:
        raise UsageError("--force replaces a calibration and was given without --calibrate; leave it out")
    if resume_folder is not None:
        _refuse_others(ctx, ("resume_folder", "timeout"), "--resume takes everything else from the unfinished run")
        return every.show_runs([resume(resume_folder, timeout_s=timeout if _given(ctx, "timeout") else None)])
    foreign = tuple(ctx.args)
    options = _Options(
        profile, iterations, rounds, tuple(variant or ()), size, device, recorder, timeout, seed, warmup, nsys_arg or ()
    )
    if baseline is not None:
        _refuse_in_pair(ctx, workload, foreign)
        settled = _settle_device("a pair of commands", device, catalog.DEVICES)
        plans = [pairs.pair_plan(baseline, rung or (), optimized, name, timing, replace(options, device=settled))]
    elif extra := [one for one in PAIR_OPTIONS if _given(ctx, one)]:
        raise UsageError(
            f"--{extra[0]} was given without --baseline; a pair of commands needs --baseline and --optimized"
        )
    elif foreign:
        if workload is not None:
            raise UsageError(f"both the workload {workload!r} and a command were given; give one of them")
        for name in COMMAND_OPTIONS:
            if _given(ctx, name):
                raise UsageError(
                    f"--{name} was given with a command of your own, which runs once and as it is; leave it out"
                )
        plans = [_command_plan(foreign, options)]
    elif workload is None:
        _known_device(device)
        runnable, reasons = every.able(catalog.CATALOG, device, every.usable_gpus())
        for reason in reasons:
            console.warn(reason)
        if not runnable:
            raise UsageError(f"no workload can run on {device} here, as said above; choose another --device")
        plans = [_builtin_plan(entry, options) for entry in runnable]
    elif workload.endswith(".py"):
        plans = [_file_plan(Path(workload), options)]
    else:
        plans = [_builtin_plan(catalog.find(workload), options)]
    for plan in plans:
        planning.check_plan(plan)
    check_container(output, "--output")
    if dry_run:
        for plan in plans:
            for line in planning.describe(plan, output / f"{file_name(plan.workload)}-<time>"):
                console.say(line)
        return 0
    return every.show_runs(every.capture_each(plans, output))


@dataclass(frozen=True, slots=True)
class _Options:
    """The options as given; the workload's own defaults are not in them yet."""

    profile: str
    iterations: int | None
    rounds: int
    variants: tuple[str, ...]
    size: str
    device: str
    recorder: str
    timeout_s: float
    seed: int
    warmup: int | None
    nsys_args: Sequence[str]


def _builtin_plan(entry: catalog.Entry, options: _Options) -> Plan:
    unknown = [name for name in options.variants if name not in entry.variant_names]
    if unknown:
        raise UsageError(
            f"{entry.name} has no variant {unknown[0]!r}{nearest(unknown[0], entry.variant_names)}; "
            f"it has {', '.join(entry.variant_names)}"
        )
    if options.size not in entry.sizes:
        raise UsageError(f"{entry.name} has no size {options.size!r}; it has {', '.join(entry.sizes)}")
    device = _settle_device(entry.name, options.device, entry.devices)
    # The entry's order, not the command line's: the baseline comes first in every report.
    asked = tuple(v for v in entry.variants if not options.variants or v[0] in options.variants)
    gpus = len(host.visible_gpus()) if device == "cuda" else 0
    if unmet := entry.unmet(device, gpus):
        remedy = f"; take --device {entry.devices[0]}" if device != entry.devices[0] else ""
        raise UsageError(f"{entry.name} cannot be captured on {device} here: {unmet}{remedy}")
    lacking = {name: need for name, _ in asked if (need := entry.lacks(name, gpus))}
    found = f"{gpus or 'no'} GPU{'s' if gpus > 1 else ''}"
    if lacking and options.variants:
        name, need = next(iter(lacking.items()))
        raise UsageError(f"{entry.name}'s variant {name!r} needs {need} and this run can use {found}; leave it out")
    return _workload_plan(
        entry.name,
        "builtin",
        planning.builtin_program(entry.name),
        tuple(v for v in asked if v[0] not in lacking),
        replace(options, device=device),
        left_out=tuple(
            f"variant {n} was left out: it needs {need}, {found} can be used" for n, need in lacking.items()
        ),
        devices=entry.devices,
        iterations=entry.default_iterations,
        warmup=entry.default_warmup,
        process_per_variant=entry.process_per_variant,
        changes=entry.changes,
    )


def _file_plan(file: Path, options: _Options) -> Plan:
    if not file.is_file():
        raise UsageError(f"{file} does not exist; name a workload of `aisp-trace list` or an existing .py file")
    if file.stem in [entry.name for entry in catalog.CATALOG]:
        raise UsageError(
            f"{file} is called as a workload of aisp-trace, whose expectations are not yours; rename the file"
        )
    variants = tuple((name, "") for name in options.variants) or FILE_VARIANTS
    program = planning.file_program(file.resolve())
    return _workload_plan(file.stem, "file", program, variants, options)


def _workload_plan(
    name: str,
    source: str,
    program: Sequence[str],
    variants: Sequence[tuple[str, str]],
    options: _Options,
    *,
    devices: Sequence[str] = catalog.DEVICES,
    iterations: int = FILE_ITERATIONS,
    warmup: int = FILE_WARMUP,
    process_per_variant: bool = False,
    left_out: Sequence[str] = (),
    changes: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    device = _settle_device(name, options.device, devices)
    recorder, notes = choose_recorder(
        options.recorder, profile=options.profile, device=device, nsys_args=options.nsys_args
    )
    return Plan(
        schema=planning.SCHEMA,
        workload=name,
        source=source,
        program=program,
        variants=[PlannedVariant(name, words, None, changes.get(name)) for name, words in variants],
        profile=options.profile,
        recorder=None if recorder is None else recorder.name,
        device=device,
        iterations=iterations if options.iterations is None else options.iterations,
        warmup=warmup if options.warmup is None else options.warmup,
        size=options.size,
        seed=options.seed,
        rounds=options.rounds,
        process_per_variant=process_per_variant,
        timeout_s=options.timeout_s,
        nsys_args=tuple(options.nsys_args),
        command_line=("aisp-trace", *sys.argv[1:]),
        notes=(*left_out, *notes),
    )


def _command_plan(command: Sequence[str], options: _Options) -> Plan:
    require_program(command[0])
    device = _settle_device("a command", options.device, catalog.DEVICES)
    recorder, notes = choose_recorder(
        options.recorder, profile=options.profile, device=device, nsys_args=options.nsys_args, foreign=True
    )
    return Plan(
        schema=planning.SCHEMA,
        workload=planning.COMMAND_VARIANT,
        source="command",
        program=command,
        variants=[PlannedVariant(planning.COMMAND_VARIANT, "")],
        profile=options.profile,
        recorder=None if recorder is None else recorder.name,
        device=device,
        iterations=None,
        warmup=None,
        size=None,
        seed=None,
        rounds=0,
        process_per_variant=False,
        timeout_s=options.timeout_s,
        nsys_args=tuple(options.nsys_args),
        command_line=("aisp-trace", *sys.argv[1:]),
        notes=notes,
    )


def _settle_device(name: str, asked: str, able: Sequence[str]) -> str:
    """ "cpu" or "cuda"; raises `UsageError` for a device that does not exist or that `name` cannot use."""
    _known_device(asked)
    if asked == "auto":
        asked = "cuda" if "cuda" in able and host.cuda_usable() else "cpu"
    if asked not in able:
        raise UsageError(f"{name} cannot run on {asked}; it runs on {', '.join(able)}")
    return asked


def _known_device(asked: str) -> None:
    if asked not in planning.DEVICES:
        raise UsageError(f"device {asked!r} does not exist; devices are {', '.join(planning.DEVICES)}")


def _refuse_in_pair(ctx: typer.Context, workload: str | None, foreign: Sequence[str]) -> None:
    if workload is not None or foreign:
        what = "a command after --" if workload is None else f"the workload {workload!r}"
        raise UsageError(f"both --baseline and {what} were given; give one of them")
    for name in COMMAND_OPTIONS:
        if name != "rounds" and _given(ctx, name):
            raise UsageError(f"--{name} was given with --baseline, whose commands are run as they are; leave it out")


def _refuse_others(ctx: typer.Context, allowed: Sequence[str], why: str, option: str = "--resume") -> None:
    for name in ctx.params:
        if name not in allowed and _given(ctx, name):
            raise UsageError(f"--{name.replace('_', '-')} was given together with {option}, but {why}; leave it out")
    if ctx.args:
        raise UsageError(f"a command was given together with {option}, but {why}; leave it out")


def _given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
