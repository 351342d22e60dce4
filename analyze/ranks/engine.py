"""Where partials are made: any ``concurrent.futures.Executor``. Processes of this machine by default, a Dask cluster if asked.

Nothing is scheduled here. A task is one trace: it needs the file and these libraries, and gives back a few megabytes at most.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from ...traces.errors import UsageError

Item = TypeVar("Item")
T = TypeVar("T")

CONNECT_S: Final = 10
"""How long a scheduler may take to answer: one on another host answers within a second."""

THREADS: Final = "POLARS_MAX_THREADS"
"""How many threads a worker's data frames use; read once, when they are imported."""

DIED: Final = "the process that read it ended: probably it ran out of memory; give --workers 1, or a larger machine"


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """An executor: of the Dask cluster whose `scheduler` has that address, else of `workers` processes (default: one a CPU).

    Raises `UsageError` where no scheduler answers, or Dask is not installed.
    """
    if scheduler is None:
        with _processes(workers or cpus()) as pool:
            yield pool
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ModuleNotFoundError as exc:
        raise UsageError(
            "--scheduler needs Dask; install it with `pip install 'aisp-trace[dask]'`, on the workers as well"
        ) from exc
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as exc:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler[:80]!r}; give the address that `dask scheduler` prints, such as "
            "tcp://HOST:8786"
        ) from exc
    with client, client.get_executor(pure=False) as remote:
        yield remote


@contextmanager
def in_process() -> Iterator[Executor]:
    """An executor that starts no process: for a trace on the machine that it was recorded on."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes (data frames must not be forked) that share the CPUs between them."""
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, str(max(1, cpus() // workers)))
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        if before is None:
            os.environ.pop(THREADS, None)


def run_all(
    pool: Executor, task: Callable[[Item], T], items: Iterable[Item]
) -> Generator[tuple[Item, T | BaseException], None, None]:
    """Each of `items` with what `task` made of it, or what it raised, as they are done; `task` is picklable. What was not begun
    when this is closed is not done: an interrupt need not wait for all the rest.

    A process that dies takes its pool with it. What was not done then is tried again, each in a pool of its own, so that only
    the item which kills processes is lost.
    """
    futures: dict[Future[T], Item] = {pool.submit(task, item): item for item in items}
    again = []
    try:
        for future in as_completed(futures):
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                again.append(futures[future])
            else:
                yield futures[future], future.result() if error is None else error
    finally:
        for future in futures:
            future.cancel()
    for item in again:
        with _processes(1) as alone:
            error = (one := alone.submit(task, item)).exception()
            yield item, one.result() if error is None else error
