"""From the options of ``aisp-trace capture`` to plans: a workload of ours, one in a file, a command, a pair of commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..capture import host
from ..capture import plan as planning
from ..capture.pair import TIMINGS, pair_name, pair_variants, require_program
from ..capture.plan import Plan, PlannedVariant
from ..capture.recorders import Recorder, choose_recorder
from ..capture.window import Window
from ..kernels.guard import is_enabled, unready
from ..kernels.tasks import find
from ..traces.errors import RecorderError, UsageError
from ..traces.faults import nearest
from ..traces.output import real
from ..workloads import catalog
from .app import WORDS
from .programs import runnable

FILE_VARIANTS: Final = (("baseline", ""), ("optimized", ""))
"""The variants a workload in a user's file is taken to have when --variant names none."""

FILE_ITERATIONS: Final = 10
FILE_WARMUP: Final = 3
"""Iterations of a workload in a user's file; workloads of ours say their own in the catalog."""


@dataclass(frozen=True, slots=True)
class Options:
    """`capture`'s options as given; the workload's own defaults are not in them yet."""

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
    recordings: int = 1
    task: str | None = None
    kernels: tuple[str, ...] = ()


def builtin_plan(entry: catalog.Entry, options: Options) -> Plan:
    """The plan of a workload of ours; raises `UsageError` for a variant, size, device or task that it does not have here."""
    entry = entry.of_task(options.task)
    unknown = [name for name in options.variants if name not in entry.variant_names]
    if unknown:
        has = f"it has {', '.join(entry.variant_names)}"
        raise UsageError(f"{entry.name} has no variant {unknown[0]!r}{nearest(unknown[0], entry.variant_names, has)}")
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
    found = f"{gpus or 'no'} GPU{'s' if gpus > 1 else ''} can be used"
    if lacking and options.variants:
        name, need = next(iter(lacking.items()))
        raise UsageError(f"{entry.name}'s variant {name!r} needs {need}, and {found}; leave it out")
    lacking = {name: f"it needs {need}, {found}" for name, need in lacking.items()}
    for name, task in entry.kernels.items():
        if name in [n for n, _ in asked] and name not in lacking and (why := _unready(entry, options, task)):
            if options.task is not None or options.variants:
                raise UsageError(f"{entry.name}'s variant {name!r} cannot run: {why}")
            lacking[name] = why
    words = [word for task in _enabled(entry, options) for word in ("--enable-kernel", task)]
    task_words = ["--task", options.task] if options.task is not None else []
    return _workload_plan(
        entry.name,
        "builtin",
        (*planning.builtin_program(entry.name.partition(".")[0]), *task_words, *words),
        tuple(v for v in asked if v[0] not in lacking),
        replace(options, device=device),
        left_out=tuple(f"variant {name} was left out: {why}" for name, why in lacking.items()),
        devices=entry.devices,
        iterations=entry.default_iterations,
        warmup=entry.default_warmup,
        process_per_variant=entry.process_per_variant,
        changes=entry.changes,
    )


def _enabled(entry: catalog.Entry, options: Options) -> list[str]:
    """The generated kernels of `entry` that are enabled, here or in the environment. One that a --task asks for needs no more."""
    wanted = [] if options.task is not None else sorted(set(entry.kernels.values()))
    return [task for task in wanted if task in options.kernels or is_enabled(task)]


def _unready(entry: catalog.Entry, options: Options, task: str) -> str:
    """Why the guard would not let the kernel of `task` through."""
    enabled = options.task is not None or task in _enabled(entry, options)
    return unready(task, find(task).dtypes[0], enabled=enabled)


def file_plan(file: Path, options: Options) -> Plan:
    """The plan of the workload in a user's `file`; raises `UsageError` if there is none, or it is called as one of ours."""
    if not file.is_file():
        raise UsageError(f"{file} does not exist; name a workload of `aisp-trace list` or an existing .py file")
    if file.stem in catalog.names():
        raise UsageError(
            f"{file} has the name of a workload of aisp-trace, whose expectations are not yours; rename the file"
        )
    variants = tuple((name, "") for name in options.variants) or FILE_VARIANTS
    words = [word for task in options.kernels for word in ("--enable-kernel", task)]
    program = (*planning.file_program(real(file)), *words)
    return _workload_plan(file.stem, "file", program, variants, options)


def _workload_plan(
    name: str,
    source: str,
    program: Sequence[str],
    variants: Sequence[tuple[str, str]],
    options: Options,
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
    planned = [PlannedVariant(name, words, None, changes.get(name)) for name, words in variants]
    return replace(
        _plan(name, source, program, planned, options, device, recorder, (*left_out, *notes)),
        iterations=iterations if options.iterations is None else options.iterations,
        warmup=warmup if options.warmup is None else options.warmup,
        size=options.size,
        seed=options.seed,
        process_per_variant=process_per_variant,
    )


def command_plan(command: Sequence[str], options: Options, window: Window | None = None) -> Plan:
    """The plan that records `command` once, as it is, or a `window` of it; raises `UsageError` if its program does not exist."""
    require_program(command)
    device = _settle_device("a command", options.device, catalog.DEVICES)
    recorder, notes = choose_recorder(
        options.recorder,
        profile=options.profile,
        device=device,
        nsys_args=options.nsys_args,
        foreign=True,
        window=window,
        programs=[command],
    )
    only = PlannedVariant(planning.COMMAND_VARIANT, "")
    plan = _plan(planning.COMMAND_VARIANT, "command", command, [only], options, device, recorder, notes)
    return replace(plan, rounds=0, looks=(), window=window)


def pair_plan(
    baseline: str, rungs: Sequence[str], optimized: str | None, name: str | None, timing: str, options: Options
) -> Plan:
    """The plan that runs the commands in the current folder; raises `UsageError` for what cannot be run."""
    if optimized is None:
        raise UsageError("--baseline was given without --optimized; a pair needs both, `capture -- CMD` records one")
    if timing not in TIMINGS:
        raise UsageError(f"timing {timing!r} does not exist; timings are {', '.join(TIMINGS)}")
    device = _settle_device("a pair of commands", options.device, catalog.DEVICES)
    variants = pair_variants(baseline, rungs, optimized, runnable)
    workload = pair_name(name, variants, catalog.names())
    try:
        recorder, notes = choose_recorder(
            options.recorder,
            profile=options.profile,
            device=device,
            nsys_args=options.nsys_args,
            foreign=True,
            programs=[variant.program or () for variant in variants],
        )
    except RecorderError as exc:
        raise RecorderError(f"{exc}; or time the pair without recording it: --profile none") from exc
    plan = _plan(workload, "pair", (), variants, options, device, recorder, notes)
    return replace(plan, process_per_variant=True, timing=timing, folder=str(Path.cwd()))


def _plan(
    workload: str,
    source: str,
    program: Sequence[str],
    variants: Sequence[PlannedVariant],
    options: Options,
    device: str,
    recorder: Recorder | None,
    notes: tuple[str, ...],
) -> Plan:
    """What every plan takes from the options; what a command has not (iterations, size, seed) is left open."""
    return Plan(
        schema=planning.SCHEMA,
        workload=workload,
        source=source,
        program=program,
        variants=variants,
        profile=options.profile,
        recorder=None if recorder is None else recorder.name,
        device=device,
        iterations=None,
        warmup=None,
        size=None,
        seed=None,
        rounds=options.rounds,
        process_per_variant=False,
        timeout_s=options.timeout_s,
        nsys_args=tuple(options.nsys_args),
        command_line=("aisp-trace", *WORDS.get()),
        notes=notes,
        looks=(options.rounds,) if options.rounds > 0 else (),
        recordings=options.recordings,
    )


def _settle_device(name: str, asked: str, able: Sequence[str]) -> str:
    """ "cpu" or "cuda"; raises `UsageError` for a device that does not exist or that `name` cannot use."""
    known_device(asked)
    if asked == "auto":
        asked = "cuda" if "cuda" in able and host.cuda_usable() else "cpu"
    if asked not in able:
        raise UsageError(f"{name} cannot run on {asked}; it runs on {', '.join(able)}")
    return asked


def known_device(asked: str) -> None:
    """Raise `UsageError` for a device that does not exist."""
    if asked not in planning.DEVICES:
        raise UsageError(f"device {asked!r} does not exist; devices are {', '.join(planning.DEVICES)}")
