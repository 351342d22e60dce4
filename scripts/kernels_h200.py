"""Emit, verify and bench the kernels of all tasks on this machine's GPU within a given time; or search their parameters.

python -P scripts/kernels_h200.py FOLDER [TASK ...] [--seconds 480] [--dtype bfloat16] [--settings searches.json]
python -P scripts/kernels_h200.py FOLDER [TASK ...] --search [--seconds 480] [--dtype bfloat16]
python -P scripts/kernels_h200.py FOLDER --table

The first way writes verifications.json and bench.json, objects of what `kernels verify --json` and `kernels bench --json`
print, by task; the second one searches.json, whose best settings the first takes with --settings. Each file is written
anew as soon as there is more to say, so that what is there when the time is over is whole. --table prints bench.json as Markdown.

    emit and compile | verify, several at a time | bench: the kernels of all tasks, eager code, compiled code, a process each

Verifications run side by side, so their times are not to be believed; what is not verified is tried once more by itself. Loops
for energy are of each task's first shape. Leaves 1 if something was refused, 3 if something is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aisp_trace.kernels import emit, space
from aisp_trace.kernels.bench.gpu import has_gpu
from aisp_trace.kernels.bench.parent import Options, Wanted, bench_all
from aisp_trace.kernels.bench.result import COMPILED, EAGER, KERNEL, Bench, Measurement, Searched
from aisp_trace.kernels.bench.search import Asked as Search
from aisp_trace.kernels.bench.search import search
from aisp_trace.kernels.task import Settings, Task
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.kernels.verify.evidence import Asked
from aisp_trace.kernels.verify.parent import verify
from aisp_trace.kernels.verify.result import Verification
from aisp_trace.report.terminal.kernel_bench import print_search, settings_text
from aisp_trace.traces.errors import AispTraceError
from aisp_trace.traces.figures import significant
from aisp_trace.traces.version import version

WORKERS: Final = 5
"""Verifications at a time."""

CALLS: Final = 6
"""Timed calls of a verification here: enough to see that they are alike."""

AGAIN_S: Final = 60.0
"""A verification by itself takes no longer."""

EXPORT_S: Final = 40.0
"""Kept from the time for ending the last process, and for exporting and reading its recording."""

VERIFY_S: Final = 90.0
"""What a search needs beyond its budget, to verify its best."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for, as far as the time goes."""
    parser = argparse.ArgumentParser(description="The kernels of all tasks, measured.", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where JSON files go; made if need be")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    parser.add_argument("--seconds", type=float, default=480.0, help="all that this may take")
    parser.add_argument("--dtype", default="bfloat16", help="element type, where a task has it")
    parser.add_argument("--search", action="store_true", help="search parameters instead")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="take the best of this searches.json")
    parser.add_argument("--table", action="store_true", help="only print what bench.json holds, as Markdown")
    parser.add_argument("--no-compiled", action="store_true", help="leave torch.compile out")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.tasks if name not in NAMES]:
        parser.error(f"no task is called {', '.join(unknown)}; tasks are {', '.join(NAMES)}")
    if asked.table:
        print("\n".join(table(json.loads((asked.folder / "bench.json").read_text(encoding="utf-8")))))
        return 0
    if not has_gpu():
        print("A GPU is needed and torch sees none here; nothing was measured.")
        return 3
    deadline = time.monotonic() + asked.seconds
    asked.folder.mkdir(parents=True, exist_ok=True)
    tasks = [find(name) for name in asked.tasks or NAMES]
    try:
        return searched(tasks, asked, deadline) if asked.search else benched(tasks, asked, deadline)
    except AispTraceError as error:
        print(f"kernels_h200: {error}")
        return error.exit_code


def dtype_of(task: Task, dtype: str) -> str:
    """`dtype` where `task` has it, else its first."""
    return dtype if dtype in task.dtypes else task.dtypes[0]


def write(file: Path, document: Mapping[str, Any]) -> None:
    """`document` in `file`, which is never half there."""
    beside = file.with_suffix(".partial")
    beside.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    beside.replace(file)


# -- verify and bench --------------------------------------------------------------------------------------------------


def benched(tasks: Sequence[Task], asked: argparse.Namespace, deadline: float) -> int:
    """Emit, verify, bench."""
    import torch

    best = best_settings(asked.settings)
    arch = "sm_{}{}".format(*torch.cuda.get_device_capability())
    with tempfile.TemporaryDirectory() as temporary:
        files = {}
        for task in tasks:
            files[task.name] = file = Path(temporary) / f"{task.name}.cu"
            settings = best.get(task.name) or space.defaults(task)
            file.write_text(emit.source(task, settings, arch, version()), encoding="utf-8")
        verdicts = verify_all(tasks, files, asked, deadline)
    documents = {name: one.document() for name, one in verdicts.items()}
    wanted = [
        Wanted(task, dtype_of(task, asked.dtype), (), None, documents.get(task.name), best.get(task.name))
        for task in tasks
    ]
    options = Options(compiled=not asked.no_compiled, energy_shapes=1, deadline=deadline - EXPORT_S)
    found = bench_all(
        wanted, options, lambda text: print(f"{text} ...", flush=True), lambda some: keep(some, asked.folder)
    )
    for one in found:
        print(line(one), flush=True)
    for note in dict.fromkeys(note for one in found for note in one.notes):
        print(f"note: {note}")
    if any(one.status == "refused" for one in verdicts.values()):
        return 1
    return 0 if len(verdicts) == len(tasks) and not any(one.exit_code for one in found) else 3


def best_settings(file: Path | None) -> dict[str, Settings]:
    """By task, the best settings of a searches.json; of a task without any, none."""
    if file is None:
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {name: one["best"]["tried"]["settings"] for name, one in found.items() if one["best"]}


def verify_all(
    tasks: Sequence[Task], files: Mapping[str, Path], asked: argparse.Namespace, deadline: float
) -> dict[str, Verification]:
    """The verdicts by task; what is not verified side by side is tried by itself, where there is time."""
    found: dict[str, Verification] = {}

    def one(task: Task) -> Verification:
        request = Asked(files[task.name], task.name, dtype_of(task, asked.dtype), calls=CALLS, sanitizer=False)
        return verify(request)

    def told(task: Task, verdict: Verification) -> None:
        found[task.name] = verdict
        codes = ", ".join(dict.fromkeys(reason.code for reason in verdict.reasons))
        print(f"{task.name:<20} {verdict.headline}" + (f" [{codes}]" if codes else ""), flush=True)
        for reason in verdict.reasons[:3]:
            print(f"    {reason.code}: {reason.text} ({reason.calls})")
        write(asked.folder / "verifications.json", {name: each.document() for name, each in found.items()})

    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = {pool.submit(one, task): task for task in tasks}
        for done in as_completed(waiting):
            if (error := done.exception()) is not None:
                print(f"{waiting[done].name:<20} {type(error).__name__}: {error}", flush=True)
            else:
                told(waiting[done], done.result())
    for task in tasks:
        verdict = found.get(task.name)
        if (verdict is None or verdict.status == "refused") and time.monotonic() + AGAIN_S < deadline:
            try:
                told(task, one(task))
            except (AispTraceError, RuntimeError) as exc:
                print(f"{task.name:<20} {exc}", flush=True)
    return found


def keep(found: Sequence[Bench], folder: Path) -> None:
    """All that is known so far."""
    write(folder / "bench.json", {one.task: one.document() for one in found})


def line(found: Bench) -> str:
    """One task's times at its first shape: the kernel, eager, compiled; and the share of the limit at the others."""
    if not found.shapes:
        return f"{found.task:<20} nothing was timed"
    first, *others = [one.shape for one in found.shapes]
    times = [
        f"{how} {told(found.of(how, first))}" for how in (KERNEL, EAGER, COMPILED) if found.of(how, first) is not None
    ]
    shares = [share(found.of(KERNEL, shape)) for shape in others]
    rest = f"; other shapes {', '.join(shares)}" if shares else ""
    return f"{found.task:<20} {found.dtype} {first}: {', '.join(times)}{rest}; {found.verification}"


def told(one: Measurement | None) -> str:
    """``101.2 us (93 %, 31 mJ)``."""
    if one is None or one.time_ns is None:
        return "not timed"
    words = [
        share(one),
        *([f"{significant(one.energy_j * 1e3, 3)} mJ"] if one.energy_j else []),
        *(["WRONG"] if one.is_wrong else []),
    ]
    return f"{one.time_ns / 1e3:.1f} us{'' if one.trace_ns else ' by events'} ({', '.join(words)})"


def share(one: Measurement | None) -> str:
    """Of the limit, in per cent."""
    return "-" if one is None or one.share_of_limit is None else f"{100 * one.share_of_limit:.0f} %"


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """A Markdown row a task and shape: times and shares of the limit, and the kernel's time over the better of the two others."""
    yield "| task | shape | limit | kernel | eager | compiled | over the better | energy of kernel, eager, compiled |"
    yield "| --- | --- | --: | --: | --: | --: | --: | --: |"
    for task, one in found.items():
        for shape in one["shapes"]:
            found_there = [Measurement(**m) for m in one["measurements"] if m["shape"] == shape["shape"]]
            each = [
                next((m for m in found_there if m.implementation == how), None) for how in (KERNEL, EAGER, COMPILED)
            ]
            own, *others = (None if m is None else m.time_ns for m in each)
            right = [
                t for t, m in zip(others, each[1:], strict=True) if t is not None and m is not None and not m.is_wrong
            ]
            over = "–" if own is None or not right else f"{own / min(right):.2f} ×"
            spent = [f"{1e3 * m.energy_j:.1f}" for m in each if m is not None and m.energy_j]
            joules = f"{', '.join(spent)} mJ" if spent else ""
            cells = [cell(m) for m in each]
            limit = f"{shape['limit_ns'] / 1e3:.1f} us"
            yield f"| `{task}` | {shape['shape'].replace(',', ', ')} | {limit} | {' | '.join(cells)} | {over} | {joules} |"


def cell(one: Measurement | None) -> str:
    """``101.2 us, 93 %``."""
    if one is None or one.time_ns is None:
        return "–"
    events = " by events" if one.trace_ns is None else ""
    shared = "" if one.share_of_limit is None else f", {share(one)}"
    return f"{one.time_ns / 1e3:.1f} us{events}{shared}{', **wrong**' if one.is_wrong else ''}"


# -- search ------------------------------------------------------------------------------------------------------------


def searched(tasks: Sequence[Task], asked: argparse.Namespace, deadline: float) -> int:
    """Search the tasks one after the other, each with the same share of what time is left."""
    found: dict[str, Searched] = {}
    for number, task in enumerate(tasks):
        left = (deadline - time.monotonic()) / (len(tasks) - number)
        if left < VERIFY_S + 10:
            print(f"{task.name:<20} not searched: {left:.0f} s are too few for one task")
            continue
        one = search(Search(task, dtype_of(task, asked.dtype), budget_s=left - VERIFY_S))
        found[task.name] = one
        print_search(one, space.defaults(task))
        best = "nothing verified" if one.best is None else settings_text(one.best.tried.settings)
        print(f"{task.name:<20} {best}\n", flush=True)
        write(asked.folder / "searches.json", {name: asdict(each) for name, each in found.items()})
    return 0 if len(found) == len(tasks) and not any(one.exit_code for one in found.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
