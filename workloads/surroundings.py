"""What a whole process shares, seen before a variant exists and looked at again: nothing of it may be a variant's.

    hooks       what runs by itself: signal handlers, timers, profilers, modes of torch, hooks of all modules
    functions   what the harness and the problem call: a replaced one answers as a variant likes
    settings    what the next variant would find: threads, precision, the collector; right again after `close`

`BOUND` are the functions that times are taken and outputs are compared with. A workload's own file may replace one before this
module is imported; so each must be genuine: C code, or the very code that its module's file holds.
"""

from __future__ import annotations

import builtins
import gc
import importlib.util
import itertools
import math
import os
import random
import signal
import statistics
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from .held import PLAIN, Same
from .interface import Variant

_C_CODE: Final = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
)
_OURS: Final = ("proof", "measure", "verify", "inputs", "held", "surroundings", "interface")
_WHOLE: Final = (
    *(builtins, gc, itertools, math, os, random, signal, statistics, sys, threading, time),
    *(torch, torch.autograd, torch.cuda, torch.linalg, torch.nn.functional, torch.nn.init, torch.random),
)
_CLASSES: Final = (torch.Tensor, torch.Generator, torch.cuda.Event, torch.nn.Module, random.Random, threading.Thread)
_ITIMERS: Final = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
_INACTIVE_KEYS: Final = ("Meta", "Functionalize", "PythonDispatcher")
"""Dispatch keys under which compilers register kernels of torch's own operators; none of them computes."""


class Surroundings:
    """A process as it is now. `changed_*` name what differs later, in words."""

    def __init__(self, problem: object) -> None:
        self._problem = problem
        self._hooks = dict(_hooks())
        self._functions = dict(_functions(problem))
        self._settings = dict(_settings())

    def changed_hooks(self) -> list[str]:
        """What would run by itself, and did not before."""
        return _changed(self._hooks, dict(_hooks()))

    def changed_functions(self) -> list[str]:
        """Functions that are others now, or have other code. New names are not a change: modules are imported late.

        Nor is what torch does to itself when its compiler is imported.
        """
        now = dict(_functions(self._problem))
        changed = [name for name, was in self._functions.items() if now.get(name) != was]
        return [
            name for name in changed if not _wrapped(self._functions[name][0].it, now.get(name, (Same(None),))[0].it)
        ]

    def changed_settings(self) -> list[str]:
        """What a later variant of this process would find otherwise."""
        return _changed(self._settings, dict(_settings()))


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [what for what in was if what in now and was[what] != now[what]]


# -- what runs by itself -----------------------------------------------------------------------------------------------


def _hooks() -> Iterator[tuple[str, Any]]:
    for number in signal.valid_signals():
        with suppress(ValueError, OSError):
            handler = signal.getsignal(number)
            yield f"the handler of {signal.Signals(number).name}", handler if handler is None else Same(handler)
    for name in _ITIMERS:
        if hasattr(signal, name):
            left, interval = signal.getitimer(getattr(signal, name))
            yield f"the timer {name}", (left > 0, interval)
    yield "sys.setprofile", Same(sys.getprofile())
    yield "sys.settrace", Same(sys.gettrace())
    yield "threading.setprofile", Same(threading.getprofile())
    yield "threading.settrace", Same(threading.gettrace())
    if monitoring := getattr(sys, "monitoring", None):
        yield "sys.monitoring", tuple(monitoring.get_tool(tool) for tool in range(6))
    yield "gc.callbacks", tuple(map(Same, gc.callbacks))
    yield "a TorchFunctionMode", tuple(map(Same, _get_current_function_mode_stack()))
    yield "a TorchDispatchMode", tuple(map(Same, _get_current_dispatch_mode_stack()))
    for module in map(sys.modules.__getitem__, ("torch.nn.modules.module", "torch.optim.optimizer")):
        for name, hooks in vars(module).items():
            if name.startswith("_global_") and isinstance(hooks, dict):
                yield f"{module.__name__}.{name}", tuple((key, Same(hook)) for key, hook in hooks.items())
    kernels = getattr(torch.library, "_impls", ())
    yield (
        "a kernel of a torch operator",
        frozenset(one for one in kernels if one.startswith("aten/") and not one.endswith(_INACTIVE_KEYS)),
    )


# -- what is called ----------------------------------------------------------------------------------------------------


def _functions(problem: object) -> Iterator[tuple[str, Any]]:
    home = __name__.rpartition(".")[0]
    own = [sys.modules[name] for name in (f"{home}.{one}" for one in _OURS) if name in sys.modules]
    kinds = [kind for kind in type(problem).__mro__ if kind is not object]
    theirs = [sys.modules[name] for name in dict.fromkeys(kind.__module__ for kind in kinds) if name in sys.modules]
    for module in dict.fromkeys((*_WHOLE, *own, *theirs)):
        for name, value in list(vars(module).items()):
            if callable(value):
                yield f"{module.__name__}.{name}", _code(value)
            local = isinstance(value, type) and value.__module__ == module.__name__
            if local and module in (*own, *theirs) and not issubclass(value, Variant):
                yield from _methods(value, (value,))
    for kind in (*_CLASSES, *kinds):
        yield from _methods(kind, kind.__mro__)


def _methods(kind: type, bases: Sequence[type]) -> Iterator[tuple[str, Any]]:
    """What `kind` finds in `bases`, the first before the others: a new method of the class hides an old one of a base."""
    found = {name: value for base in reversed(bases) for name, value in vars(base).items()}
    for name, value in found.items():
        if callable(value) or isinstance(value, property | staticmethod | classmethod):
            yield f"{kind.__name__}.{name}", _code(value)


def _code(value: Any) -> tuple[Same, Same]:
    """A function, and the code in it, which may be exchanged without exchanging the function."""
    return Same(value), Same(getattr(value, "__code__", None) if isinstance(value, types.FunctionType) else None)


def _wrapped(was: Any, now: Any) -> bool:
    """Whether `now` is Python code of torch's files that leads to nothing but such code and `was`, which is torch's own too."""
    if not isinstance(was, types.FunctionType) or not was.__module__.startswith("torch."):
        return False
    waiting, seen = [now], {id(was)}
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (*_C_CODE, *PLAIN)):
            continue
        seen.add(id(one))
        where = one.__globals__.get("__name__", "") if isinstance(one, types.FunctionType) else ""
        if not where.startswith("torch.") or one.__code__ not in _written(where).values():
            return False
        waiting += [cell.cell_contents for cell in one.__closure__ or ()] + list(one.__defaults__ or ())
    return True


# -- what the next variant finds ----------------------------------------------------------------------------------------


def _settings() -> Iterator[tuple[str, Any]]:
    asked: dict[str, Callable[[], Any]] = {
        "torch's number of threads": torch.get_num_threads,
        "torch's matmul precision": torch.get_float32_matmul_precision,
        "torch's default type": torch.get_default_dtype,
        "torch's grad mode": torch.is_grad_enabled,
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled,
        "cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
        "the garbage collector": lambda: (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "the switch interval": sys.getswitchinterval,
        "the processors in use": lambda: getattr(os, "sched_getaffinity", lambda _: None)(0),
        "the process's priority": lambda: os.getpriority(os.PRIO_PROCESS, 0),
    }
    for what, ask in asked.items():
        with suppress(AttributeError, OSError, RuntimeError):
            yield what, ask()
    if torch.cuda.is_initialized():
        yield "the current device", torch.cuda.current_device()
        yield "the current stream", torch.cuda.current_stream()


# -- whether a function is what its name says ---------------------------------------------------------------------------


def genuine(owner: Any, name: str) -> bool:
    """Whether `owner.name` is C code of this name, or the Python code that the file of `owner`'s module holds under it."""
    function = getattr(owner, name, None)
    if isinstance(function, _C_CODE):
        leaf = owner.__name__.rpartition(".")[2]
        return getattr(function, "__name__", "") in (name, f"{leaf}_{name}")
    if not isinstance(function, types.FunctionType) or function.__globals__.get("__name__") not in sys.modules:
        return False
    where = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    written = _written(where).get(name if isinstance(owner, types.ModuleType) else f"{owner.__qualname__}.{name}")
    return function.__code__ == written and function.__globals__ is vars(sys.modules[where])


@cache
def _written(module: str) -> Mapping[str, types.CodeType]:
    """Qualified name -> code of every function in the file of `module`."""
    spec = importlib.util.find_spec(module)
    code = spec.loader.get_code(module) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]

    def within(code: types.CodeType) -> Iterator[tuple[str, types.CodeType]]:
        for one in code.co_consts:
            if isinstance(one, types.CodeType):
                yield one.co_qualname, one
                yield from within(one)

    return dict(within(code)) if code is not None else {}
