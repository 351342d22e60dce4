"""The ways of `kernels bench` and `kernels search`: what is asked for, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..kernels import space
from ..kernels.bench.parent import Options, Wanted, bench, has_gpu, need_gpu
from ..kernels.bench.result import Bench
from ..kernels.bench.search import Asked as Search
from ..kernels.bench.search import search
from ..kernels.task import Task
from ..kernels.tasks import NAMES
from ..kernels.verify.parent import parse_shape
from ..kernels.verify.result import SCHEMA
from ..report.terminal.console import aside, progress
from ..report.terminal.kernel_bench import print_search, print_unsearched
from ..traces.documents import VERDICT
from ..traces.errors import InputError, UsageError
from ..traces.output import Output
from ..traces.run import read_document
from .emitting import SOURCE, Asked, asked, emit_files, task_called


@dataclass(frozen=True, slots=True)
class Words:
    """What stands on the command line of bench."""

    what: str
    task: str | None
    dtype: str | None
    shapes: Sequence[str]
    verification: Path | None


def benched(words: Words, compiled: bool, seconds: float) -> Bench:
    """Time what the words name; raises `UsageError` or `InputError` for what cannot be."""
    file = None if words.what in NAMES and words.task is None else Path(words.what)
    if file is not None and words.task is None:
        if file.suffix not in (".cu", ".py"):
            task_called(words.what)  # says which tasks there are
        raise UsageError(f"{file} is a file; name the task that it computes with --task")
    if file is not None and file.suffix not in (".cu", ".py"):
        raise UsageError(f"{file} is neither a .cu nor a .py file; only these can be kernels")
    if file is not None and not file.is_file():
        raise InputError(f"{file} is no file; name a kernel, a .cu or a .py file, or a task")
    task = task_called(words.task or words.what)
    dtype, shapes = dtype_of(task, words.dtype), [parse_shape(task, text) for text in words.shapes]
    document = None if words.verification is None else read_document(words.verification, SCHEMA, VERDICT)
    need_gpu("time kernels")
    return bench(Wanted(task, dtype, shapes, file, document), Options(compiled, seconds), progress)


def dtype_of(task: Task, dtype: str | None) -> str:
    """The element type; raises `UsageError` for one that `task` has not."""
    if dtype is not None and dtype not in task.dtypes:
        raise UsageError(f"{task.name} has no dtype {dtype!r}; it has {', '.join(task.dtypes)}")
    return dtype or task.dtypes[0]


def searched(
    name: str,
    dtype: str | None,
    shapes: Sequence[str],
    arch: str | None,
    budget_s: float,
    output: Path | None,
    force: bool,
) -> int:
    """Search, show what was found, and write the best to `output`; the exit code."""
    task = task_called(name)
    kind, sizes = dtype_of(task, dtype), [parse_shape(task, text) for text in shapes]
    what = asked(name, arch or "sm_90", ())
    target = None if output is None else Output(output, SOURCE, force=force, option="-o")
    if target is not None:
        target.check()
    if not has_gpu():
        print_unsearched(name, space.defaults(task))
        return 3
    found = search(Search(task, kind, sizes, arch, budget_s), progress)
    if target is not None and target.to_stdout:
        with aside(target):
            print_search(found, space.defaults(task))
    else:
        print_search(found, space.defaults(task))
    if output is not None and found.best is not None:
        emit_files(Asked(task, found.best.tried.settings, found.arch, what.capability), output, force, False)
    return found.exit_code
