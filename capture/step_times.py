"""When each training step of a timed program ends, for programs that delimit no iterations: what their rounds are compared by.

    optimizer.step()   |--|          |--|          |--|          |--|
    ends                  ^ 0           ^ 1           ^ 2           ^ 3
    steps                 |------ 1 ----|------ 2 ----|------ 3 ----|

A step lasts from the end of one optimizer's ``step()`` to the end of the next, so that all of the loop counts: data, logging,
checkpoints, evaluations. Nothing else of torch is touched, and a step costs about 3 us more, to write a line of the answer file
(``answer.py``). These are the ends of the phase `step` (``phases.py``).

Only steps of optimizers whose parameters lie on the CPU are timed: there the call returns when its work, and all that it needs,
is done. On a GPU it returns while kernels are still queued. Only the main thread's count, as for phases.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

MOST_STEPS: Final = 200_000
"""Of one process: a manifest of 16 rounds of a pair then has 115 MB, of 128 that it may have."""

ON_A_DEVICE: Final = "an optimizer's parameters lie on a GPU, which still works when the call returns"
TOO_MANY: Final = f"a process made more than {MOST_STEPS:,} steps"


def time_steps(path: str) -> None:
    """Write the end of each of this process's steps into the answer file `path`, from now on."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)
    steps = _Steps(path)

    def before(*_: Any) -> None:
        if not compiling():
            steps.begin()

    def after(optimizer: Any, *_: Any) -> None:
        if not compiling():
            steps.end(optimizer)

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)


class _Steps:
    """Of one process; an optimizer within another's call is part of its step."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._open = False
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        self._count = 0

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
        elif optimizer in self._seen or _on_cpu(optimizer):
            self._seen.add(optimizer)
            self._write(f'{{"pid": {os.getpid()}, "step": {ended}}}\n')
        else:
            self._lose(ON_A_DEVICE)

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


def _on_cpu(optimizer: Any) -> bool:
    return all(p.device.type == "cpu" for group in optimizer.param_groups for p in group["params"])
