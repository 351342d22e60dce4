"""How much memory and processor time what is read may cost: a stated share for each byte of it, and a start for all.

    file --(charge)--> allowance grows by `Cost` of its bytes
    while a command reads: every `LOOK_S` what this process has taken is held against it; beyond it, one sentence and exit code 2

Limits of single doors (`documents`, `unpack`, `bundle`) come first and are exact. This one is the net below them: it holds
whatever a file makes a parser, a decoder or an analysis do. Linux only; elsewhere nothing is watched.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from .errors import AispTraceError, UsageError
from .figures import significant

MEMORY_VARIABLE: Final = "AISP_TRACE_MEMORY"
SECONDS_VARIABLE: Final = "AISP_TRACE_SECONDS"

START_BYTES: Final = 3 << 29
"""1.5 GiB: what the libraries, compiled code and the page of any trace take, five times over."""

START_S: Final = 600.0
"""Processor seconds: compiling takes 20 of them where nothing is kept from an earlier start."""

LOOK_S: Final = 0.05
"""Between looks, which take some 20 us."""

AGAIN_S: Final = 1.0
"""Between asking to stop and asking again: what is asked may be in compiled code, or have taken the error for one of its own."""

ASKED: Final = 15
"""How often it is asked before the process ends itself."""

FAR_BEYOND: Final = 1.5
"""Share of the memory allowed at which the process ends itself at once."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a byte of one kind of file may cost: bytes of memory, and processor seconds."""

    memory: float
    seconds: float


SQLITE: Final = Cost(24, 20e-6)
"""Measured: 11 bytes and 0.15 us for each byte of an export of a million kernels, page included."""

TORCH: Final = Cost(4, 20e-6)
"""Measured: 2 bytes and 0.1 us for each byte of JSON."""

DOCUMENT: Final = Cost(10, 20e-6)
"""JSON of our own. Parsed it takes 6 times its length, and 20 times as a list of empty lists, which none of ours is."""

PARTIAL: Final = Cost(200, 20e-6)
"""Parquet of a rank, which holds some 0.6 bytes for each kernel."""


KEPT: Final = Cost(150, 100e-6)
"""Our own copy of a trace's tables as Parquet, which takes a tenth to a third of an export's bytes."""


class BudgetError(AispTraceError):
    """What was read takes more than it is allowed; not an `InputError`, which some readers take for a file to be left out."""


@dataclass(slots=True)
class _Allowance:
    memory: float = START_BYTES
    seconds: float = START_S
    fixed_memory: bool = False
    fixed_seconds: bool = False


_charged: dict[str, tuple[int, Cost]] = {}
_allowance = _Allowance()


def charge(file: Path, nbytes: int, cost: Cost) -> None:
    """`nbytes` of `file` are about to be read, of which each may `cost` so much; what is read twice counts once."""
    before, _ = _charged.get(str(file), (0, cost))
    _charged[str(file)] = max(nbytes, before), cost
    more = max(nbytes - before, 0)
    if not _allowance.fixed_memory:
        _allowance.memory += more * cost.memory
    if not _allowance.fixed_seconds:
        _allowance.seconds += more * cost.seconds


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Inside, `BudgetError` is raised in the main thread as soon as this process has taken more than it is allowed.

    What it has taken before does not count. Where Python swallows the error, as in `__del__` or a callback of the garbage
    collector, nothing is printed and it is raised again a little later. Raises `UsageError` for a variable that names no amount.
    """
    global _allowance
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _charged.clear()
    _allowance = _asked()
    if not Path("/proc/self/statm").exists():
        yield
        return
    over = threading.Event()
    reasons: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if reasons and not over.is_set():
            raise BudgetError(reasons[-1])

    def swallowed(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, BudgetError):
            others(lost)

    previous, others = signal.signal(signal.SIGUSR2, stop), sys.unraisablehook
    sys.unraisablehook = swallowed
    before = taken_bytes(), time.process_time()
    thread = threading.Thread(target=_watch, args=(over, reasons, *before), name="budget", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        sys.unraisablehook = others
        signal.signal(signal.SIGUSR2, previous if previous is not None else signal.SIG_DFL)


def _watch(over: threading.Event, reasons: list[str], memory: int, seconds: float) -> None:
    wait_s, asked = LOOK_S, 0
    while not over.wait(wait_s):
        held, spent = taken_bytes() - memory, time.process_time() - seconds
        if held <= _allowance.memory and spent <= _allowance.seconds:
            wait_s = LOOK_S if not asked else wait_s
            continue
        reasons.append(_sentence(held > _allowance.memory))
        if asked >= ASKED or held > FAR_BEYOND * _allowance.memory:
            print(f"aisp-trace: {reasons[-1]}", file=sys.stderr, flush=True)
            os._exit(BudgetError.exit_code)
        asked, wait_s = asked + 1, AGAIN_S if asked else 4 * LOOK_S
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)


def taken_bytes() -> int:
    """Memory of this process that is not a file's."""
    resident, shared = Path("/proc/self/statm").read_bytes().split()[1:3]
    return (int(resident) - int(shared)) * _PAGE


_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _sentence(memory: bool) -> str:
    named = max(_charged, key=lambda name: _charged[name][0], default="what was asked")
    many = f"{named} and {len(_charged) - 1} more files" if len(_charged) > 1 else named
    if memory:
        limit, variable, fixed = _allowance.memory / 2**30, MEMORY_VARIABLE, _allowance.fixed_memory
        amount, example = f"{significant(limit, 3)} GiB of memory", f"{max(2 * limit, 2):.0f}G"
    else:
        limit, variable, fixed = _allowance.seconds, SECONDS_VARIABLE, _allowance.fixed_seconds
        amount, example = f"{significant(limit)} s of processor time", f"{max(2 * limit, 2):.0f}"
    why = f"all that {variable} allows" if fixed else "more than a trace of that size takes"
    return f"{many} took over {amount}, {why}; if you trust it, allow more with {variable}={example}"


def _asked() -> _Allowance:
    found = _Allowance()
    if text := os.environ.get(MEMORY_VARIABLE):
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([MGT])(?:i?B)?", text)
        if match is None:
            raise UsageError(f"{MEMORY_VARIABLE} is {text[:40]!r}; give an amount of memory such as 500M or 16G")
        found.memory, found.fixed_memory = float(match[1]) * 2.0 ** {"M": 20, "G": 30, "T": 40}[match[2]], True
    if text := os.environ.get(SECONDS_VARIABLE):
        if not re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text):
            raise UsageError(f"{SECONDS_VARIABLE} is {text[:40]!r}; give seconds of processor time such as 3600")
        found.seconds, found.fixed_seconds = float(text), True
    return found
