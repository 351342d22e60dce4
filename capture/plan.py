"""The plan of a capture: everything that decides what will be run, as one value.

The plan is made once, printed by ``--dry-run``, stored in the unfinished run folder, and is all that ``--resume``
needs. It holds plain values only.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..traces.content import NAME, file_name
from ..traces.documents import HIGHEST, LOWEST, read
from ..traces.documents import PLAN as PLAN_KIND
from ..traces.errors import InputError, UsageError
from ..traces.hardware_key import slug
from ..traces.pair_timing import PROCESSES
from ..traces.run import ADDED, again_folder, check_workload, from_json
from . import program
from .answer import ANSWER_VARIABLE
from .nsys import PROFILES
from .recorders import Recorder, choose_recorder
from .window import Window, check_window

SCHEMA: Final = "aisp-trace/plan/1"
PLAN: Final = "plan.json"
DEVICES: Final = ("auto", "cpu", "cuda")

DEFAULT_ROUNDS: Final = 8
"""The least number of rounds whose minimum and maximum are a 99 % interval of the median (2 * 0.5**8 = 0.8 %)."""
DEFAULT_TIMEOUT_S: Final = 900.0
MOST_RECORDINGS: Final = 10
"""Recordings of a variant: the tables of quantiles in ``expectations/judging/starts.py`` end here."""
MOST_TIMED: Final = 4_000_000
"""Times of iterations in one run: 72 MB of the 128 that a manifest may have (``documents.MANIFEST``)."""
COMMAND_VARIANT: Final = "command"
FOREIGN: Final = ("command", "pair")
"""Sources that are the user's own command lines, which know nothing of the process protocol."""


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """A variant by name, with the words the report shows for it; in a pair, with its own whole command.

    `changes` names the variant that an alternative is one change to; null for a rung, which changes the one before.
    """

    name: str
    description: str
    program: Sequence[str] | None = None
    changes: str | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A claim on times that rounds are added to decide: time of `baseline` over that of `variant`, at least `minimum`.

    `max_ms` and `min_items_per_s` are the claim's limits by variant: milliseconds of an iteration, required items per second.
    `statistic` sums up a round's iterations ("mean" or "median"); `claim` names the claim, for people. `to_bound` says that
    nothing is written down yet, so that bounds are to come from these rounds: `accept` takes none from rounds in doubt.
    `timed_by` is what the claim's bounds were measured by (``traces/pair_timing.py``; null: nobody says): rounds that are timed
    by something else decide nothing by them. `judged`: somebody has filled the claim in, so that a miss fails the check.
    """

    claim: str
    baseline: str
    variant: str
    minimum: float
    statistic: str
    to_bound: bool = field(default=False, metadata=ADDED)
    max_ms: Mapping[str, float] = field(default_factory=dict, metadata=ADDED)
    min_items_per_s: Mapping[str, float] = field(default_factory=dict, metadata=ADDED)
    timed_by: str | None = field(default=None, metadata=ADDED)
    judged: bool = field(default=True, metadata=ADDED)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a capture does. `program` is the command line that starts the workload, or the user's whole command.

    `recorder` is settled: "nsys", "torch" or null (profile none). `source` is "builtin", "file", "command" or "pair"; a
    command has one variant and no rounds, and neither it nor a pair has `iterations`, `warmup`, `size` and `seed`. With
    `process_per_variant` a round is one fresh process per variant instead of one for all. Only a pair has `timing` (what
    its times are to come from, see ``pair.TIMINGS``) and `folder`, where its commands run.

    `looks` are the numbers of rounds at which a verdict may be given. With one, it is `rounds`; with several, rounds end at
    the first that decides all `goals`, or before what `budget_s` seconds of rounds would not reach; `rounds` is the last.
    `by_recording` are the claims that no round decides.

    Only a command may have a `window`: the part of it that is recorded.

    Each variant is recorded `recordings` times, in fresh processes: all variants once, then all again.
    """

    schema: str
    workload: str
    source: str
    program: Sequence[str]
    variants: Sequence[PlannedVariant]
    profile: str
    recorder: str | None
    device: str
    iterations: int | None
    warmup: int | None
    size: str | None
    seed: int | None
    rounds: int
    process_per_variant: bool
    timeout_s: float
    nsys_args: Sequence[str]
    command_line: Sequence[str]
    notes: Sequence[str] = ()
    timing: str | None = None
    folder: str | None = None
    looks: Sequence[int] = field(default=(), metadata=ADDED)
    goals: Sequence[Goal] = field(default=(), metadata=ADDED)
    budget_s: float | None = field(default=None, metadata=ADDED)
    by_recording: Sequence[str] = field(default=(), metadata=ADDED)
    recordings: int = field(default=1, metadata=ADDED)
    window: Window | None = field(default=None, metadata=ADDED)

    @property
    def foreign(self) -> bool:
        """Whether the programs are the user's own command lines."""
        return self.source in FOREIGN

    @property
    def names(self) -> tuple[str, ...]:
        """The variants' names, in their given order."""
        return tuple(variant.name for variant in self.variants)


def check_plan(plan: Plan) -> Plan:
    """`plan` itself; raises `UsageError` or `InputError` for the first thing in it that cannot be carried out."""
    if plan.profile not in PROFILES:
        raise UsageError(f"profile {plan.profile!r} does not exist; profiles are {', '.join(PROFILES)}")
    if plan.device not in ("cpu", "cuda"):
        raise UsageError(f"device {plan.device!r} does not exist; devices are {', '.join(DEVICES)}")
    if not plan.variants:
        raise UsageError(f"{plan.workload} was asked for without a variant; name at least one")
    twice = sorted({name for name in plan.names if plan.names.count(name) > 1})
    if twice:
        raise UsageError(f"variant {twice[0]!r} was asked for twice; name each once")
    check_workload(plan.workload, "the workload's name")
    for name in plan.names:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"a variant is called {name[:80]!r}, and it names a folder; use letters, digits, '_', '.' and '-', a letter or "
                "digit first, at most 64"
            )
    if plan.timeout_s <= 0:
        raise UsageError(f"--timeout is {plan.timeout_s:g} s; it must be above 0")
    if plan.source == "command":
        if plan.profile == "none":
            raise UsageError("profile none times workloads and cannot record a command; take --profile minimal or deep")
        if plan.window is not None:
            check_window(plan.window)
        return plan
    if not 1 <= plan.recordings <= MOST_RECORDINGS:
        raise UsageError(f"--recordings is {plan.recordings}; it must be from 1 to {MOST_RECORDINGS}")
    if plan.recordings > 1 and plan.profile == "none":
        raise UsageError("--recordings was given with --profile none, which records nothing; leave one of them out")
    if plan.budget_s is not None and plan.budget_s <= 0:
        raise UsageError(f"--budget is {plan.budget_s / 60:g} minutes; it must be above 0")
    if plan.rounds < 0 or (plan.rounds == 0 and plan.profile == "none"):
        raise UsageError(f"--rounds is {plan.rounds}; without a recording it must be at least 1, with one at least 0")
    if plan.foreign:
        return plan
    if plan.iterations is None or plan.iterations < 1:
        raise UsageError(f"--iterations is {plan.iterations}; it must be at least 1")
    if plan.warmup is None or plan.warmup < 0:
        raise UsageError(f"--warmup is {plan.warmup}; it must be at least 0")
    timed = plan.iterations * plan.rounds * len(plan.variants)
    if timed > MOST_TIMED:
        raise UsageError(
            f"{plan.rounds} rounds of {plan.iterations:,} iterations of {len(plan.variants)} variants are {timed:,} times, and a "
            f"manifest holds {MOST_TIMED:,}; take fewer"
        )
    if plan.seed is not None and not LOWEST <= plan.seed <= HIGHEST:
        raise UsageError(f"--seed is {plan.seed}; it must fit 64 bits")
    return plan


def load_plan(folder: Path) -> Plan:
    """The plan stored in an unfinished run folder; raises `InputError` if there is none."""
    file = folder / PLAN
    try:
        data = read(file, PLAN_KIND)
    except InputError as exc:
        raise InputError(f"{folder} cannot be resumed: {exc}") from exc
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f"{folder} was begun by another version and cannot be resumed; capture anew")
    return check_plan(from_json(Plan, data, str(file)))


def script_name(words: Sequence[str]) -> str:
    """The first word that is a script's file, else the module after ``-m``, else the program: as a name."""
    script = next((word for word in words if Path(word).suffix in (".py", ".sh")), None)
    if script is None and "-m" in words[:-1]:
        script = words[list(words).index("-m") + 1]
    return slug(Path(words[0] if script is None else script).stem)[:28] or COMMAND_VARIANT


def script_of(plan: Plan) -> str | None:
    """The name of the script that a plan of a single command records; null for all other plans."""
    return script_name(plan.program) if plan.source == "command" else None


def run_name(plan: Plan) -> str:
    """What the plan's run folders are called, but for the time: after the workload, or the script of a command."""
    return file_name(script_of(plan) or plan.workload)


def builtin_program(workload: str) -> tuple[str, ...]:
    """The command line of a workload of ours. -P: a checkout's own folders must not shadow other packages."""
    return (sys.executable, "-P", "-m", f"aisp_trace.workloads.{workload}")


def file_program(file: Path) -> tuple[str, ...]:
    """The command line of a workload in a file of the user's; it may import what lies beside it, hence no -P."""
    return (sys.executable, str(file))


def order(names: Sequence[str], index: int) -> tuple[str, ...]:
    """The order of round `index`: A B, B A, A B ... so that drift that is linear in time cancels between variants."""
    return tuple(names) if index % 2 == 0 else tuple(reversed(names))


def processes(plan: Plan, index: int) -> list[tuple[str, ...]]:
    """The variants each process of round `index` runs: one process with all of them, or one each."""
    ordered = order(plan.names, index)
    return [(name,) for name in ordered] if plan.process_per_variant else [ordered]


def per_round(plan: Plan) -> int:
    """How many processes a round is."""
    return len(plan.variants) if plan.process_per_variant else 1


def round_words(plan: Plan, index: int) -> str:
    """Round `index` for people: ``round 3/8``, or ``round 3, of at most 40`` where the rounds' number is not settled."""
    return f"round {index + 1}, of at most {plan.rounds}" if len(plan.looks) > 1 else f"round {index + 1}/{plan.rounds}"


def recordings(plan: Plan) -> list[tuple[int, str]]:
    """(number from 0, variant) of each recording in the order they are made: all variants once, then all again."""
    return [(number, name) for number in range(plan.recordings) for name in plan.names]


def workload_command(plan: Plan, variants: Sequence[str], result: Path, *, traced: bool) -> tuple[str, ...]:
    """The command line of one workload process that runs `variants` and writes `result`."""
    if plan.source == "pair":
        return next(tuple(variant.program or ()) for variant in plan.variants if variant.name == variants[0])
    if plan.source == "command":
        return tuple(plan.program)
    command = [*plan.program]
    for name in variants:
        command += ["--variant", name]
    command += ["--iterations", str(plan.iterations), "--warmup", str(plan.warmup)]
    if plan.size is not None:
        command += ["--size", plan.size]
    command += ["--device", plan.device, "--seed", str(plan.seed), "--result", str(result)]
    return (*command, "--trace") if traced else tuple(command)


def pair_variables(plan: Plan, answer: Path) -> dict[str, str]:
    """The variables of an untraced command of a pair. Where whole processes are asked for, nothing of ours gets into them."""
    steps = {} if plan.timing == PROCESSES else program.environment(program.STEPS, os.environ.get("PYTHONPATH"))
    return {ANSWER_VARIABLE: str(answer), **steps}


def recorder_for(plan: Plan) -> Recorder | None:
    """The plan's recorder on this machine; raises `RecorderError` if it does not work here."""
    if plan.recorder is None:
        return None
    recorder, _ = choose_recorder(
        plan.recorder,
        profile=plan.profile,
        device=plan.device,
        nsys_args=plan.nsys_args,
        foreign=plan.foreign,
        window=plan.window,
    )
    return recorder


def describe(plan: Plan, folder: Path) -> list[str]:
    """Lines for ``--dry-run``: every command `capture` would run, in order, with the variables it sets."""
    lines = [f"# {plan.workload}, profile {plan.profile}, recorder {plan.recorder or 'none'}, run folder {folder}"]
    if len(plan.looks) > 1:
        goals = ", ".join(f"{g.claim} (at least {g.minimum:g}x)" for g in plan.goals)
        lines.append(f"# rounds end at {', '.join(map(str, plan.looks))}, at the first that decides {goals}")
    for index in range(plan.rounds):
        for number, variants in enumerate(processes(plan, index)):
            result = folder / "rounds" / round_file(plan, index, number)
            answer = answer_file(result.parent, index, variants[0])
            told = pair_variables(plan, answer) if plan.source == "pair" else {}
            words = shlex.join(workload_command(plan, variants, result, traced=False))
            lines.append(" ".join([*(f"{key}={shlex.quote(value)}" for key, value in told.items()), words]))
    recorder = recorder_for(plan)
    if plan.window is not None:
        lines.append(
            f"# recorded {plan.window.describe()}; the program {'is ended then' if plan.window.kill else 'goes on'}"
        )
    for number, name in recordings(plan) if recorder is not None else ():
        assert recorder is not None
        own = folder / name / again_folder(number)
        gated = not plan.foreign
        target = workload_command(plan, [name], own / "traced.json", traced=True)
        variables = [f"{key}={shlex.quote(value)}" for key, value in recorder.environment(own, gated).items()]
        lines.append(" ".join([*variables, shlex.join(recorder.command(target, own, gated))]))
    return lines


def round_file(plan: Plan, index: int, number: int) -> str:
    """The result file of process `number` of round `index`."""
    return f"round_{index:02d}_{number}.json" if plan.process_per_variant else f"round_{index:02d}.json"


def answer_file(folder: Path, index: int, name: str) -> Path:
    """Where variant `name` of a pair may say something about itself in round `index`."""
    return folder / f"round_{index:02d}_{name}.jsonl"
