"""What goes on computing when it should be idle: devices, threads of this process, and processes that it started.

Threads are those that Linux lists, not the objects that stand for them: a program may write its own classes of threads, or
start one without any object. Only Linux is supported; elsewhere nothing is found.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

WINDOW_S: Final = 0.005
"""How long the harness sleeps to see whether other threads go on computing."""

BUSY: Final = 0.2
"""Share of the window that a thread computes which does not wait: little, since threads share cores on a loaded machine."""

SPIN_S: Final = 0.3
"""Idle threads of OpenMP spin before they sleep: those of Intel's runtime for 0.2 s (KMP_BLOCKTIME)."""

CLOCK: Final = time.perf_counter_ns
SYNCHRONIZE: Final = torch.cuda.synchronize
SLEEP, PROCESS_NS, THREAD_NS = time.sleep, time.process_time_ns, time.thread_time_ns
FRAMES, ENUMERATE, OWN_IDENT, OWN_NUMBER = (
    sys._current_frames,
    threading.enumerate,
    threading.get_ident,
    threading.get_native_id,
)
_CLOCK_OF = getattr(time, "pthread_getcpuclockid", None)


@dataclass(frozen=True, slots=True)
class Running:
    """Processor time in ns so far: of each other thread that runs Python, and of each process started since, by number."""

    threads: dict[int, int]
    processes: dict[int, int]

    def since(self, then: Running) -> int:
        """Processor time in ns that all of them took since `then`; of those that have ended nobody knows."""
        return sum(ns - then.threads.get(one, 0) for one, ns in self.threads.items()) + sum(
            ns - then.processes.get(pid, 0) for pid, ns in self.processes.items()
        )


def running(before: Set[int]) -> Running:
    """What there is now beside this thread; processes `before` are somebody else's."""
    threads = {number: ns for number in _python_threads() if (ns := _spent(f"self/task/{number}")) is not None}
    return Running(threads, {pid: _spent_by(pid) for pid in descendants() - before})


def at_work(then: Running, before: Set[int], native: bool) -> str:
    """What goes on computing beside this thread; empty: nothing. `native`: whether to look at more threads than Python's.

    `then` is what ran as the clock stopped: what has ended since, or begun and computed, was not waiting. Native threads are
    given time to stop spinning. Threads that wait, or come back from it now and then, take no time.
    """
    least = BUSY * WINDOW_S * 1e9
    for windows in itertools.count(1):
        mine, whole = THREAD_NS(), PROCESS_NS()
        SLEEP(WINDOW_S)
        now = running(before)
        if _went_on(then.threads, now.threads, least):
            return "a thread"
        if _went_on(then.processes, now.processes, least):
            return "a process"
        if not native or (PROCESS_NS() - whole) - (THREAD_NS() - mine) <= least:
            return ""
        if windows * WINDOW_S > SPIN_S:
            return "threads"
    raise AssertionError


def idle_after_ns() -> int:
    """How long it takes until the slowest device that this process uses is idle; 0 without one."""
    if not torch.cuda.is_initialized():
        return 0
    start = CLOCK()
    for index in range(torch.cuda.device_count()):
        if torch._C._cuda_hasPrimaryContext(index):  # to ask another one would begin to use it
            SYNCHRONIZE(index)
    return CLOCK() - start


def descendants() -> set[int]:
    """Numbers of the processes that this one started, and of those that they started; empty where Linux does not tell."""
    found: set[int] = set()
    waiting = ["self"]
    while waiting:
        for file in _listed(waiting.pop(), "children"):
            with suppress(OSError):
                new = {int(word) for word in file.read_text(encoding="ascii").split()} - found
                found |= new
                waiting += map(str, new)
    return found


def _went_on(then: dict[int, int], now: dict[int, int], least: float) -> bool:
    """Whether one of `then` has ended or computed for more than `least` ns, or one that has begun since has."""
    return any(one not in now for one in then) or any(ns - then.get(one, 0) > least for one, ns in now.items())


def _python_threads() -> set[int]:
    """Linux's numbers of all threads that run Python, except this one; what their objects say is used where it fits."""
    listed = {int(task.name) for task in _listed("self", "")}
    told = {thread.ident: _number(thread) for thread in ENUMERATE()}
    found = set()
    for ident in FRAMES().keys() - {OWN_IDENT()}:
        number = told.get(ident)
        if number is None or number not in listed or number == OWN_NUMBER():
            number = _asked(ident)
        if number in listed:
            found.add(number)
    return found - {OWN_NUMBER()}


def _number(thread: threading.Thread) -> int | None:
    """Its number, as the standard library wrote it down; null where the thread's class has a say in that."""
    kind, plain = type(thread), threading.Thread
    if all(getattr(kind, name) is getattr(plain, name) for name in ("native_id", "_set_native_id")):
        number: int | None = vars(thread).get("_native_id")
        return number
    return None


def _asked(ident: int) -> int | None:
    """The number of the thread that the interpreter calls `ident`, from its clock's, which holds it (clock_getres(2)).

    Asked of a thread that has just ended this can crash; so it is the last resort, for threads that have something to hide.
    """
    with suppress(OSError):
        return ~(_CLOCK_OF(ident) >> 3) if _CLOCK_OF is not None else None
    return None


def _listed(process: str, file: str) -> list[Path]:
    with suppress(OSError):
        return [task / file for task in Path(f"/proc/{process}/task").iterdir()]
    return []


def _spent(task: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{task}/schedstat").read_text(encoding="ascii").split()[0])
    return None


def _spent_by(pid: int) -> int:
    return sum(_times(pid))


def _times(pid: int) -> Iterator[int]:
    for task in _listed(str(pid), ""):
        ns = _spent(f"{pid}/task/{task.name}")
        if ns is not None:
            yield ns
