"""Independent parts of one analysis at the same time, on large traces.

The parts are pure functions of tables that nothing changes, and most of their time is spent in code that releases the
interpreter's lock (compiled primitives, polars, numpy's loops).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LARGE: Final = 200_000
"""Elements from which the parts are worth threads."""

WORKERS: Final = 2
"""More would hold more temporary arrays at once than they save time."""


SWITCH_S: Final = 0.0002
"""How long a part keeps the interpreter's lock from one that waits for it; the usual 5 ms are as long as many parts."""


class Start(Protocol):
    """Starts a part, and returns a function that waits for what it returns or raises."""

    def __call__(self, part: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]: ...


@contextmanager
def side_by_side(size: int) -> Iterator[Start]:
    """A `Start` for parts that work on `size` elements; for few of them parts run when they are started."""
    if size < LARGE:
        yield _at_once
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    with ThreadPoolExecutor(WORKERS, "analysis") as pool:

        def start(part: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
            future: Future[R] = pool.submit(part, *args, **kwargs)
            return future.result

        try:
            yield start
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            sys.setswitchinterval(interval)


def _at_once(part: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
    result = part(*args, **kwargs)
    return lambda: result
