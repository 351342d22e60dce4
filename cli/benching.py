"""The ways of `kernels bench` and `kernels search`: what is asked for, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..kernels import space
from ..kernels.artifacts import FOLDER
from ..kernels.bench import gpu
from ..kernels.bench.result import Bench
from ..kernels.tasks import NAMES
from ..kernels.untrusted import refuse_untrusted
from ..kernels.verify.limits import MemoryLimits
from ..kernels.verify.result import SCHEMA
from ..report.terminal.console import aside, progress
from ..report.terminal.kernel_bench import print_search, print_unsearched
from ..traces.documents import VERDICT
from ..traces.errors import InputError, UsageError
from ..traces.output import check_all
from ..traces.run import read_document
from .emitting import asked, emit_files, outputs_of, task_called


@dataclass(frozen=True, slots=True)
class Words:
    """What stands on the command line of bench."""

    what: str
    task: str | None
    dtype: str | None
    shapes: Sequence[str]
    verification: Path | None


def benched(words: Words, compiled: bool, seconds: float, run_untrusted: bool = False) -> Bench:
    """Time what the words name; raises `UsageError` or `InputError` for what cannot be."""
    from ..kernels.bench.parent import Options, Wanted, bench
    from ..kernels.verify.parent import parse_shape

    file = None if words.what in NAMES and words.task is None else Path(words.what)
    if file is not None and words.task is None:
        if file.suffix not in (".cu", ".py"):
            task_called(words.what)  # says which tasks there are
        raise UsageError(f"{file} is a file; name the task that it computes with --task")
    if file is not None and file.suffix not in (".cu", ".py"):
        raise UsageError(f"{file} is neither a .cu nor a .py file; only these can be kernels")
    if file is not None and not file.is_file():
        raise InputError(f"{file} is not a file; name a kernel, a .cu or a .py file, or a task")
    if file is not None:
        refuse_untrusted(file, run_untrusted)
    task = task_called(words.task or words.what)
    dtype, shapes = task.dtype_of(words.dtype), [parse_shape(task, text) for text in words.shapes]
    document = None if words.verification is None else read_document(words.verification, SCHEMA, VERDICT)
    gpu.need_gpu("time kernels")
    limits = MemoryLimits() if run_untrusted else None
    return bench(Wanted(task, dtype, shapes, file, document), Options(compiled, seconds, limits=limits), progress)


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
    from ..kernels.bench.search import Asked as Search
    from ..kernels.bench.search import search
    from ..kernels.verify.parent import parse_shape

    task = task_called(name)
    kind, sizes = task.dtype_of(dtype), [parse_shape(task, text) for text in shapes]
    what = asked(name, arch or "sm_90", ())
    outputs = [] if output is None else outputs_of(output, force)
    check_all(outputs)  # before minutes of work
    if not gpu.has_gpu():
        print_unsearched(name, what.settings)
        return 3
    found = search(Search(task, kind, sizes, arch, budget_s), progress)
    with aside(*outputs):
        print_search(found, space.defaults(task))
    if output is not None and found.best is not None:
        best = replace(asked(name, found.arch, ()), settings=found.best.tried.settings)
        emit_files(best, output, force, compiling=False, artifacts=FOLDER)
    return found.exit_code
