"""Predictions that are committed before their change is measured, and what came of them.

python -P scripts/predictions.py steps                        the steps, and the captures that they need
python -P scripts/predictions.py capture before FOLDER        baselines alone, on one start of a machine (--only: some)
python -P scripts/predictions.py write FOLDER CLAIMS          `predict --write` for every step, from the baselines in FOLDER
python -P scripts/predictions.py capture after FOLDER         baselines and variants, on a later start
python -P scripts/predictions.py table FOLDER CLAIMS          every prediction, held against the runs in FOLDER, as Markdown

Between `write` and `capture after` lies a commit of the folder CLAIMS. `capture` needs no more than recording does; the others
can run on another machine. A capture that is there already is not made again, so that a broken one is made by the same command.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aisp_trace.expectations.judging.predictions import Outcome

ROUNDS: Final = 6
"""Untraced rounds of each capture: a median's interval of 97 %, in a minute and a half with a recording."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change: of `workload` at `size`, from variant `base` to `variant`."""

    workload: str
    size: str
    base: str
    variant: str
    changes: tuple[str, ...]


STEPS: Final = (
    Step("pipeline_sequential", "large", "baseline", "optimized", ("copies:overlap",)),
    Step("pipeline_sequential", "tiny", "optimized", "cuda_graph", ("graph:iteration",)),
    Step("end_to_end_bandwidth", "large", "batched", "optimized", ("copies:overlap",)),
    Step("end_to_end_bandwidth", "tiny", "batched", "optimized", ("copies:overlap",)),
    Step("integrated_kv_cache", "large", "preallocated", "optimized", ("graph:iteration",)),
    Step("integrated_kv_cache", "tiny", "preallocated", "optimized", ("graph:iteration",)),
    Step("multiple_unoptimized", "large", "baseline", "pinned", ("copies:pinned",)),
    Step("multiple_unoptimized", "tiny", "pinned", "no_sync", ("syncs",)),
    Step("memory_standard", "large", "baseline", "keep_cache", ("allocator",)),
    Step("memory_standard", "tiny", "baseline", "keep_cache", ("allocator",)),
    Step("training_single", "large", "fused_adamw", "optimized", ("host:load", "copies:overlap")),
    Step("training_single", "tiny", "fused_adamw", "optimized", ("host:load", "copies:overlap")),
)
"""Each of a workload's size of its own, so that no baseline of one step is what another predicts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show, capture, write or tell."""
    parser = argparse.ArgumentParser(description="Predictions before and after.", allow_abbrev=False)
    ways = parser.add_subparsers(dest="way", required=True)
    ways.add_parser("steps")
    capture = ways.add_parser("capture")
    capture.add_argument("when", choices=("before", "after"))
    capture.add_argument("folder", type=Path)
    capture.add_argument("--only", action="append", metavar="WORKLOAD-SIZE", help="not all; may be repeated")
    capture.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"untraced rounds ({ROUNDS})")
    for name in ("write", "table"):
        way = ways.add_parser(name)
        way.add_argument("folder", type=Path)
        way.add_argument("claims", type=Path)
    given = parser.parse_args(arguments)
    if given.way == "steps":
        for step in STEPS:
            print(f"{step.workload} {step.size}: {step.base} -> {step.variant} by {', then '.join(step.changes)}")
        for when in ("before", "after"):
            for command, _ in captures(when, Path(when)):
                print(f"{when}: {shlex.join(command)}")
        return 0
    if given.way == "capture":
        wanted = captures(given.when, given.folder, given.rounds)
        chosen = [(c, run) for c, run in wanted if given.only is None or run.name in given.only]
        failed = [shlex.join(c) for c, run in chosen if not run.is_dir() and _run(c)]
    elif given.way == "write":
        given.claims.mkdir(parents=True, exist_ok=True)
        failed = [shlex.join(c) for c in predictions(given.folder, given.claims) if _run(c)]
    else:
        print("\n".join(table(given.folder, given.claims)))
        failed = []
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def captures(when: str, folder: Path, rounds: int = ROUNDS) -> Iterator[tuple[list[str], Path]]:
    """The commands that capture what the steps need `when` ("before" or "after"), each with the run that it makes."""
    for workload, size in dict.fromkeys((s.workload, s.size) for s in STEPS):
        mine = [s for s in STEPS if (s.workload, s.size) == (workload, size)]
        names = dict.fromkeys(name for s in mine for name in ((s.base,) if when == "before" else (s.base, s.variant)))
        run = folder / f"{workload}-{size}"
        options = [word for name in names for word in ("--variant", name)]
        command = ["capture", workload, "--size", size, "--rounds", str(rounds), *options, "--output", str(run)]
        yield [sys.executable, "-P", "-m", "aisp_trace.cli", *command], run


def predictions(folder: Path, claims: Path) -> Iterator[list[str]]:
    """The command that writes down each step."""
    for s in STEPS:
        run = f"{run_in(folder / f'{s.workload}-{s.size}')}:{s.base}"
        changes = [word for change in s.changes for word in ("--change", change)]
        options = ["--write", "--variant", s.variant, "--expectations", str(claims / f"{s.workload}-{s.size}")]
        (claims / f"{s.workload}-{s.size}").mkdir(exist_ok=True)
        yield [sys.executable, "-P", "-m", "aisp_trace.cli", "predict", run, *changes, *options]


def run_in(folder: Path) -> Path:
    """The one run that a capture left in `folder`; `folder` itself where there is none, which the command then says."""
    runs = [found.parent for found in folder.glob("*/manifest.json")]
    return runs[0] if len(runs) == 1 else folder


def table(folder: Path, claims: Path) -> Iterator[str]:
    """A Markdown row for each prediction: both speedups, the error, what came of it, and what a replay did not know."""
    from aisp_trace.expectations.judging.judged import analyses_of_run, judge_run
    from aisp_trace.traces.run import load_run

    yield "| step | grade | predicted | measured | error | what a replay does not know |"
    yield "| --- | --- | --: | --: | --: | --- |"
    found: list[Outcome] = []
    for place in sorted(claims.iterdir()):
        run = load_run(run_in(folder / place.name))
        for one in judge_run(run, analyses_of_run(run), place).predictions:
            found.append(one)
            step = f"`{place.name}` {one.baseline} to {one.variant}: {', then '.join(f'`{c}`' for c in one.changes)}"
            error = f"{100 * one.error:+.1f} %"
            yield (
                f"| {step} | {one.grade} | {one.predicted:.3f}x | {one.measured:.3f}x | {error} | {'; '.join(one.unknown)} |"
            )
    yield ""
    yield from _summary(found)


def _summary(found: Sequence[Outcome]) -> Iterator[str]:
    for grade in ("estimate", "indicative"):
        errors = sorted(abs(one.error) for one in found if one.grade == grade)
        if errors:
            median = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
            yield f"{len(errors)} {grade}: median error {100 * median:.1f} %, largest {100 * errors[-1]:.1f} %."


def _run(command: Sequence[str]) -> int:
    print(shlex.join(command), flush=True)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
