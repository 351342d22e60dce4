"""Untraced rounds: fresh processes that run the variants in alternating order and time every iteration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..traces.errors import WorkloadError
from ..traces.run import Round
from .answer import ANSWER_VARIABLE
from .folder import PartialRun, load_result, portable
from .host import now_utc, sources_of
from .looks import Made, until_decided
from .plan import Plan, processes, round_file, round_words, workload_command
from .power import watch
from .processes import Finished, how_ended, last_line, run_process
from .progress import Progress, seconds
from .stages import OUTPUT_VARIABLE, RECORDER_VARIABLE


def run_rounds(run: PartialRun, state: Mapping[str, Any], progress: Progress) -> list[Round]:
    """The rounds of the plan, those kept from before included, in order.

    With one process per variant a round is several entries of the same index. Raises `WorkloadError` when a process
    fails, does not end in time, or answers nonsense.
    """
    rounds: list[Round] = []

    def once(index: int) -> None:
        for number, variants in enumerate(processes(run.plan, index)):
            rounds.append(_run_round(run, index, number, variants, state, progress))

    def made() -> Made:
        times = [(r.index, v.name, v.iterations_ns) for r in rounds for v in r.result.variants]
        items = {v.name: v.work.items for r in rounds for v in r.result.variants}
        return Made(times, sum(r.wall_ns for r in rounds), items)

    until_decided(run.plan, once, made, progress)
    return rounds


def _run_round(
    run: PartialRun, index: int, number: int, variants: Sequence[str], state: Mapping[str, Any], progress: Progress
) -> Round:
    plan = run.plan
    folder = run.path / "rounds"
    folder.mkdir(exist_ok=True)
    result_file = folder / round_file(plan, index, number)
    command = workload_command(plan, variants, result_file, traced=False)
    step = f"rounds-{result_file.stem}"
    label = f"{round_words(plan, index)}: {', '.join(variants)}"
    kept = run.recall(step, Round, state)
    if kept is not None and kept.command == portable(command, run.path) and result_file.is_file():
        progress.skip(label, repeated=index > 0)
        return kept
    progress.step(label, repeated=index > 0)
    commit, tree = sources_now(plan)
    started = now_utc()
    environment = untraced_environment()
    with watch(plan.device, environment) as watched:
        finished = run_untraced(plan.workload, command, result_file, timeout_s=plan.timeout_s, environment=environment)
    result = load_result(result_file, plan, variants)
    done = Round(
        index=index,
        command=portable(command, run.path),
        exit_code=finished.exit_code,
        wall_ns=finished.wall_ns,
        started_utc=started,
        result=result,
        commit=commit,
        tree=tree,
        gpu_state=watched.states({variant.name: variant.timed_ns for variant in result.variants}),
        repeated_gpu_state=watched.states({v.name: v.repeated_ns for v in result.variants if len(v.repeated_ns) == 2}),
    )
    run.remember(step, done, state)
    return done


def source_folder(plan: Plan) -> tuple[Path, bool]:
    """(folder, whether it must be a repository's top) of the sources that decide what the plan's processes do."""
    builtin = plan.source == "builtin"
    return (Path(__file__).resolve().parents[1] if builtin else Path.cwd()), builtin


def sources_now(plan: Plan) -> tuple[str | None, str | None]:
    """Commit and tree of the plan's sources before one process is started; null where unknown."""
    folder, root = source_folder(plan)
    return sources_of(folder, root=root)


def run_untraced(
    who: str, command: Sequence[str], answer: Path, *, timeout_s: float, environment: Mapping[str, str]
) -> Finished:
    """Run one untraced process, called `who` in errors. What it writes to `answer` is its own; its output goes beside that.

    Raises `WorkloadError` if it cannot be started, does not end in time, or fails.
    """
    answer.unlink(missing_ok=True)
    out, err = answer.with_suffix(".stdout.log"), answer.with_suffix(".stderr.log")
    try:
        finished = run_process(command, stdout=out, stderr=err, timeout_s=timeout_s, environment=environment)
    except OSError as exc:
        raise WorkloadError(f"{who} cannot be started: {exc}") from exc
    if finished.timed_out:
        raise WorkloadError(
            f"{who} did not end within {seconds(timeout_s)} and was stopped with all its processes; give it longer with "
            f"--timeout, and see {err} for how far it came"
        )
    check_exit(who, finished.exit_code, err)
    return finished


def check_exit(who: str, exit_code: int, log: Path) -> None:
    """Raises `WorkloadError` for any exit code but 0, with the process's last words."""
    if exit_code != 0:
        raise WorkloadError(f"{who} {how_ended(exit_code)} ({last_line(log) or 'without a word'}); see {log}")


def untraced_environment() -> dict[str, str]:
    """This process's environment without anything that would make a workload record itself."""
    hidden = {RECORDER_VARIABLE, OUTPUT_VARIABLE, ANSWER_VARIABLE}
    return {name: value for name, value in os.environ.items() if name not in hidden}
