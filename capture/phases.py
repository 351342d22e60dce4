"""Phases: ranges around the calls of torch that every training loop and every model makes, for programs without any of their own.

    step        |------------------------------------------------------------| of a loop with an optimizer
    data        |---|                                              next() of a DataLoader
    load         |-|                                               what makes one batch, in the worker that makes it
    forward           |-------|                                    the outermost call of a module on its thread
    backward                   |-----------|                       torch.autograd.backward
    optimizer                               |-----------------|    step() of an optimizer

They are a domain of their own, which counts only where a program opens no ranges (``traces/stage_domain.py``): beside the
program's own they would say the same twice. A `step` begins with the first of its phases and ends with the optimizer, or where
the loader has no batch left. An evaluation, which makes no gradients, belongs to none. What torch.compile traces is left alone.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..traces.phases import PHASE_KINDS, PHASES
from .nvtx_ranges import nvtx_ranges

Opener = Callable[[str], Any]
"""Gives the range of a phase, to be entered and left once."""

STEP: Final = "step"


class Range(Protocol):
    """An opened range."""

    def __enter__(self) -> object: ...

    def __exit__(self, *exc: object) -> object: ...


def by_nvtx() -> Opener:
    """Phases as NVTX ranges; raises `ImportError` where the program's environment has no nvtx."""
    emit = nvtx_ranges(PHASES)
    return lambda name: emit(name, PHASE_KINDS[name] or None, None)


class _State(threading.local):
    """Of one thread: how deep in modules it is, and the step and the optimizer's range that are open."""

    depth = 0
    step: Range | None = None
    optimizer: Range | None = None


def put_around_torch(opened: Opener) -> None:
    """Put phases around torch's calls in this process, from now on."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
    from torch.utils.data import dataloader

    state = _State()
    trains = threading.Event()
    compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)

    def begin_step() -> None:
        if state.step is None and trains.is_set() and torch.is_grad_enabled() and _on_main():
            state.step = opened(STEP)
            state.step.__enter__()

    def end_step() -> None:
        if state.step is not None:
            state.step.__exit__(None, None, None)
            state.step = None

    def around(name: str, call: Callable[..., Any], *, steps: bool) -> Callable[..., Any]:
        @functools.wraps(call)
        def inside(*args: Any, **kwargs: Any) -> Any:
            if compiling():
                return call(*args, **kwargs)
            if steps:
                begin_step()
            try:
                with opened(name):
                    return call(*args, **kwargs)
            except StopIteration:
                end_step()  # the loader is empty, and no optimizer ends what began here
                raise

        return inside

    module_call = torch.nn.Module.__call__

    @functools.wraps(module_call)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if compiling() or state.depth:
            return module_call(self, *args, **kwargs)
        if torch.is_grad_enabled():
            begin_step()
        else:
            end_step()  # an evaluation in the middle of a loop
        state.depth = 1
        try:
            with opened("forward"):
                return module_call(self, *args, **kwargs)
        finally:
            state.depth = 0

    def before_optimizer(*_: Any) -> None:
        if not compiling() and state.optimizer is None:
            state.optimizer = opened("optimizer")
            state.optimizer.__enter__()

    def after_optimizer(*_: Any) -> None:
        if not compiling() and state.optimizer is not None:
            state.optimizer.__exit__(None, None, None)
            state.optimizer = None
            end_step()

    optimizer_made = torch.optim.Optimizer.__init__

    @functools.wraps(optimizer_made)
    def making(self: Any, *args: Any, **kwargs: Any) -> None:
        optimizer_made(self, *args, **kwargs)
        trains.set()

    torch.nn.Module.__call__ = forward
    torch.optim.Optimizer.__init__ = making
    register_optimizer_step_pre_hook(before_optimizer)
    register_optimizer_step_post_hook(after_optimizer)
    torch.autograd.backward = around("backward", torch.autograd.backward, steps=False)
    batches = dataloader._BaseDataLoaderIter
    batches.__next__ = around("data", batches.__next__, steps=True)
    for fetcher in (dataloader._utils.fetch._MapDatasetFetcher, dataloader._utils.fetch._IterableDatasetFetcher):
        fetcher.fetch = around("load", fetcher.fetch, steps=False)


def _on_main() -> bool:
    return threading.current_thread() is threading.main_thread()
