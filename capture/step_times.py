"""When each training step of a timed program ends, for programs that delimit no iterations: what their rounds are compared by.

    optimizer.step()   |--|          |--|          |--|          |--|
    ends                  ^ 0           ^ 1           ^ 2           ^ 3
    steps                 |------ 1 ----|------ 2 ----|------ 3 ----|

A step lasts from the end of one optimizer's ``step()`` to the end of the next, so that all of the loop counts: data, logging,
checkpoints, evaluations. Nothing else of torch is touched, and a step costs about 3 us more, to write a line of the answer file
(``answer.py``). These are the ends of the phase `step` (``phases.py``).

On a CPU the call returns when its work, and all that it needs, is done. On a GPU it returns while kernels are still queued, so
a CUDA event behind the optimizer's kernels ends the step there. Events are asked whether they have passed, never waited for, but
for the first, which ties the GPU's clock to the host's, and for those that are left as the process ends. Parameters on several
devices have no such end. In a recorded process every step ends on the host, as the trace's do, and no event is in the trace.

Only the main thread's steps count, as for phases.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

MOST_STEPS: Final = 200_000
"""Of one process: a manifest of 16 rounds of a pair then has 115 MB, of 128 that it may have."""

DEVICES: Final = "its optimizers' parameters lie on several devices, or on one that is neither a CPU nor a GPU"
CAPTURED: Final = "an optimizer's step is captured in a CUDA graph, whose replays are not seen"
FAILED: Final = "CUDA gave no time"

POLL_S: Final = 50e-6
"""Between two looks at an event that must pass: what the host's time of the first step may be late by."""
TOO_MANY: Final = f"a process made more than {MOST_STEPS:,} steps"


def time_steps(path: str, recorded: bool) -> None:
    """Write the end of each of this process's steps into the answer file `path`, from now on; `recorded` ones as the host saw."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)
    steps = _Steps(path, None if recorded else cuda_event)

    def before(*_: Any) -> None:
        if not compiling():
            steps.begin()

    def after(optimizer: Any, *_: Any) -> None:
        if not compiling():
            steps.end(optimizer)

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


class Event(Protocol):
    """Of ``torch.cuda.Event`` what is used, recorded."""

    def query(self) -> bool: ...
    def elapsed_time(self, end_event: Any, /) -> float: ...


class _Steps:
    """Of one process; an optimizer within another's call is part of its step. `record`: `cuda_event`, or none for the host's."""

    def __init__(self, path: str, record: Callable[[Any], Event | None] | None = None) -> None:
        self._path = path
        self._file: int | None = None
        self._open = False
        self._where: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._count = 0
        self._record = record
        self._passing: _Passing | None = None

    def begin(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._open = True

    def end(self, optimizer: Any) -> None:
        ended = time.perf_counter_ns()
        if not self._open or threading.current_thread() is not threading.main_thread():
            return  # the inner one of two has ended the step, or it is another thread's
        self._open = False
        self._count += 1
        if self._count > MOST_STEPS:
            self._lose(TOO_MANY)
        elif self._record is None:
            self._write_end(ended)
        else:
            self._end_where_it_works(optimizer, ended)

    def _end_where_it_works(self, optimizer: Any, ended_ns: int) -> None:
        device = self._where.get(optimizer)
        if device is None:
            device = self._where[optimizer] = _device(optimizer)
            if len(set(self._where.values())) > 1 or device == "several":
                self._lose(DEVICES)
                return
        if device == "cpu":
            self._write_end(ended_ns)
        else:
            self._end_on(device)

    def _end_on(self, device: Any) -> None:
        assert self._record is not None
        try:
            event = self._record(device)
            if event is None:
                self._lose(CAPTURED)
            elif self._passing is None:
                self._passing = _Passing(event, self._write_end)
                _at_exit(self.finish)
            else:
                self._passing.add(event)
        except RuntimeError:  # an error of the program's own CUDA work comes to light in any call
            self._lose(FAILED)

    def finish(self) -> None:
        """Wait for the steps that a GPU still works on."""
        try:
            if self._passing is not None and self._count <= MOST_STEPS:
                self._passing.finish()
        except RuntimeError:
            self._lose(FAILED)

    def _write_end(self, ended_ns: int) -> None:
        self._write(f'{{"pid": {os.getpid()}, "step": {ended_ns}}}\n')

    def _lose(self, why: str) -> None:
        if self._count <= MOST_STEPS + 1:  # once is enough
            self._count = MOST_STEPS + 1
            self._write(json.dumps({"pid": os.getpid(), "steps_lost": why}) + "\n")

    def _write(self, line: str) -> None:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.write(self._file, line.encode("ascii"))
        except OSError:  # the disk is full, or the program closed what is not its own: it goes on
            self._count = MOST_STEPS + 2


class _Passing:
    """Events in the order of their recording, written with the host's time at which each passed: ``write(ns)``."""

    def __init__(self, first: Event, write: Callable[[int], None]) -> None:
        _until_passed(first)
        self._last, self._ns, self._write = first, time.perf_counter_ns(), write
        self._waiting: deque[Event] = deque()
        write(self._ns)

    def add(self, event: Event) -> None:
        self._waiting.append(event)
        while self._waiting and self._waiting[0].query():
            self._pass(self._waiting.popleft())

    def finish(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            _until_passed(event)
            self._pass(event)

    def _pass(self, event: Event) -> None:
        self._ns += round(self._last.elapsed_time(event) * 1e6)  # from the one before: milliseconds have 24 bits
        self._last = event
        self._write(self._ns)


def _until_passed(event: Event) -> None:
    while not event.query():
        time.sleep(POLL_S)


def cuda_event(device: Any) -> Event | None:
    """An event at the end of what is queued on the current stream of `device`; none while a CUDA graph is captured."""
    import torch

    if torch.cuda.is_current_stream_capturing():
        return None
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    queued: Event = event
    return queued


def _device(optimizer: Any) -> Any:
    """Where the parameters lie: "cpu", a GPU, or "several"."""
    devices = {p.device for group in optimizer.param_groups for p in group["params"]}
    if all(device.type == "cpu" for device in devices):
        return "cpu"
    only = devices.pop()
    return "several" if devices or only.type != "cuda" else only


def _at_exit(finish: Callable[[], None]) -> None:
    """Also of processes that multiprocessing starts, which leave without Python's own handlers."""
    from multiprocessing.util import Finalize

    Finalize(None, finish, exitpriority=100)
