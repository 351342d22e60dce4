"""Untraced rounds of a pair: one process per variant and round, in alternating order, and what they are timed by.

A command is timed by its own iterations, if every process of every variant wrote them (``answer.py``); else by the training
steps that its optimizer makes, if all make as many (``step_times.py``); otherwise by whole processes: from before the process is
started until it has ended, on the monotonic clock, start-up included. All variants are timed by the same.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..traces.errors import UsageError, WorkloadError
from ..traces.pair_timing import ITERATIONS, PROCESSES, STEPS, timed_by
from ..traces.run import CommandAnswer, CommandRound, Manifest
from .answer import ANSWER, read_answer
from .folder import PartialRun, portable
from .host import now_utc
from .looks import Made, until_decided
from .nsys import Recorded
from .plan import Plan, answer_file, order, pair_variables, round_words, workload_command
from .power import watch
from .progress import Progress
from .rounds import check_exit, run_untraced, sources_now, untraced_environment

HASHED_BYTES: Final = 16 * 1024 * 1024
"""Files named in a command are compared by content up to this size; larger ones are data, not programs."""


def run_commands(run: PartialRun, state: Mapping[str, Any], progress: Progress) -> list[CommandRound]:
    """The untraced processes of the pair in the order they ran, those kept from before included.

    Raises `WorkloadError` when one fails, does not end in time, or answers nonsense.
    """
    plan = run.plan
    rounds: list[CommandRound] = []

    def once(index: int) -> None:
        for name in order(plan.names, index):
            rounds.append(_run_command(run, index, name, state, progress))
        if index == 0 and plan.rounds > 1:
            for note in settle(rounds, (), plan.timing or "auto")[1]:
                progress.say(f"[{plan.workload}] {note}")

    def made() -> Made:
        timed, _ = settle(rounds, (), plan.timing or "auto")
        times = [(r.index, r.variant, r.answer.times_ns(timed) or (r.wall_ns,)) for r in rounds]
        items = (
            {one.items for r in rounds for one in r.answer.stated} if all(r.answer.stated for r in rounds) else set()
        )
        agreed = dict.fromkeys(plan.names, items.pop()) if len(items) == 1 else {}  # others are for `check` to refuse
        return Made(times, sum(r.wall_ns for r in rounds), agreed, timed)

    until_decided(plan, once, made, progress)
    return rounds


def settle(
    rounds: Sequence[CommandRound], traced: Sequence[tuple[str, CommandAnswer | None]], asked: str
) -> tuple[str, list[str]]:
    """(what times the pair, one of ``pair_timing.py``; notes). `traced`: what recorded processes wrote.

    `asked` is one of `pair.TIMINGS`; it was "iterations" only if every process had some, or steps.
    """
    answers: dict[str, list[CommandAnswer]] = {}
    for one in rounds:
        answers.setdefault(one.variant, []).append(one.answer)
    for name, answer in traced:
        if answer is not None:
            answers.setdefault(name, []).append(answer)
    timed, why = (PROCESSES, "") if asked == PROCESSES else timed_by(answers)
    counts = {name: sorted({len(one.iterations_ns) for one in some}) for name, some in answers.items()}
    notes = []
    if len({tuple(found) for found in counts.values()}) > 1 or any(len(found) > 1 for found in counts.values()):
        shown = ", ".join(f"{name} {' or '.join(map(str, found))}" for name, found in counts.items())
        notes.append(f"the commands time different numbers of iterations in a process ({shown}): one may be more work")
    if timed == STEPS:
        steps = len(next(iter(answers.values()))[0].steps_ns)
        notes.append(
            f"timed by training steps, {steps} in a process: from the end of one optimizer step to the end of the next"
        )
    elif why:
        notes.append(f"timed by whole processes, start-up included, because {why}; {_MARK}")
    return timed, notes


_MARK: Final = "to time iterations, put `with aisp_trace.iteration():` around each of them in every command"


def with_commands(manifest: Manifest, rounds: Sequence[CommandRound], plan: Plan) -> Manifest:
    """`manifest` with the pair's own rounds, what they are timed by, and the notes about it."""
    recorded = {v.name for v in manifest.variants if v.recording is not None}
    traced = [(v.name, made.answer) for v in manifest.variants for made in v.recordings]
    timed, notes = settle(rounds, traced, plan.timing or "auto")
    if plan.recorder is not None:
        notes += [f"{name}: {_EMPTY}" for name in plan.names if name not in recorded]
    return replace(manifest, commands=rounds, timed=timed, notes=(*manifest.notes, *notes))


_EMPTY: Final = "its recording held neither an NVTX range nor a CUDA launch and was left out; only times can be judged"


def traced_answer(plan: Plan, name: str, folder: Path, recorded: Recorded) -> CommandAnswer:
    """What the recorded process of variant `name` wrote; raises `WorkloadError` if it failed."""
    who = f"the recorded {name} (`{shlex.join(workload_command(plan, [name], folder, traced=True))}`)"
    check_exit(who, recorded.exit_code, folder / "nsys-profile.stderr.log")
    return command_answer(plan, who, folder / ANSWER)


def check_folder(plan: Plan) -> None:
    """Raises `UsageError` if a pair is resumed elsewhere: its relative paths would name other files."""
    if plan.folder is not None and Path.cwd() != Path(plan.folder):
        raise UsageError(f"the commands of {plan.workload} were begun in {plan.folder}; resume them from there")


def file_digests(plan: Plan) -> dict[str, str]:
    """The content of every file that the commands name: a step of another script is not believed again."""
    found = {}
    for word in sorted({word for variant in plan.variants for word in variant.program or ()}):
        path = Path(word)
        try:
            if path.is_file() and path.stat().st_size <= HASHED_BYTES:
                found[word] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:  # not readable, or too long for a file's name: the command itself will say so
            continue
    return found


def _run_command(run: PartialRun, index: int, name: str, state: Mapping[str, Any], progress: Progress) -> CommandRound:
    plan = run.plan
    folder = run.path / "rounds"
    folder.mkdir(exist_ok=True)
    step = f"rounds-{index:02d}-{name}"
    label = f"{round_words(plan, index)}: {name}"
    command = workload_command(plan, [name], folder, traced=False)
    kept = run.recall(step, CommandRound, state)
    if kept is not None and kept.command == portable(command, run.path):
        progress.skip(label, repeated=index > 0)
        return kept
    progress.step(label, repeated=index > 0)
    commit, tree = sources_now(plan)
    started = now_utc()
    answer = answer_file(folder, index, name)
    environment = {**untraced_environment(), **pair_variables(plan, answer)}
    who = f"{name} (`{shlex.join(command)}`)"
    with watch(plan.device, environment) as watched:
        finished = run_untraced(who, command, answer, timeout_s=plan.timeout_s, environment=environment)
    done = CommandRound(
        index=index,
        variant=name,
        command=portable(command, run.path),
        exit_code=finished.exit_code,
        wall_ns=finished.wall_ns,
        started_utc=started,
        answer=command_answer(plan, who, answer),
        commit=commit,
        tree=tree,
        gpu_state=watched.states({name: ()}),
    )
    run.remember(step, done, state)
    return done


def command_answer(plan: Plan, who: str, file: Path) -> CommandAnswer:
    """What one process wrote; raises `WorkloadError` if it timed nothing although ``--timing iterations`` asks for it."""
    answer = read_answer(file, who, iterations=plan.timing != PROCESSES)
    if plan.timing == ITERATIONS and not answer.iterations_ns and not answer.steps_ns:
        raise WorkloadError(
            f"{who} timed no iteration; open aisp_trace.iteration() around each, or take --timing processes"
        )
    return answer
