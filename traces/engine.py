"""Compiled or plain: the one rule by which large traces run numba's code and all others numpy's.

A *primitive* touches every row of a large table. It is written twice under one name, with one signature and one meaning:

    plain       with numpy, where it is used and explained, under `primitive`
    compiled    as a loop under `jit`, in the module ``compiled`` of its folder

The first table of `COMPILED_FROM` rows turns a process to the compiled ones, and it stays with them; numba takes a second to
import and to find its code, so a process that meets small tables only never does. numba keeps the machine code itself: in
``__pycache__`` beside the module or, where that cannot be written, in the user's cache folder, or in ``NUMBA_CACHE_DIR`` where
that is set. Where it can be kept nowhere, every process compiles.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import threading
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

OFF: Final = "AISP_TRACE_NO_NUMBA"
"""Environment variable that switches compiled code off."""

COMPILED_FROM: int = 400_000
"""Rows of a table from which compiled code pays for the import of numba. Tests set it to 0 or to a very large number."""

_turned: bool = False
"""Whether this process has met such a table."""

SLOW_LOAD_S: Final = 2.0
"""Importing numba and kept machine code takes less than this; what takes longer is compiling."""

PRIMITIVES: Final[dict[str, Callable[..., Any]]] = {}
"""The plain twins by their full name, as far as their modules have been imported."""


def compiled(rows: int, module: str) -> ModuleType | None:
    """`module`, which holds compiled functions, for a table of so many rows; null where plain ones are to be used."""
    global _turned
    _turned = _turned or rows >= COMPILED_FROM
    return _imported(module) if _turned and not os.environ.get(OFF) else None


@cache
def _imported(module: str) -> ModuleType | None:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None  # numba is absent, or is none for this numpy


def primitive(plain: Callable[P, R]) -> Callable[P, R]:
    """`plain`, or its twin, which has the same name without a leading underscore, where `compiled` says so."""
    module, name = twin(plain)

    @wraps(plain)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
        rows = max(len(a) for a in args if isinstance(a, np.ndarray) and a.ndim == 1)
        fast = compiled(rows, module)
        if fast is None:
            return plain(*args, **kwargs)
        answer: R = getattr(fast, name)(*args, **kwargs)
        return answer

    PRIMITIVES[f"{plain.__module__}.{plain.__name__}"] = chosen
    return chosen


def twin(plain: Callable[..., Any]) -> tuple[str, str]:
    """(module, name) of the compiled function that does what the primitive `plain` does."""
    package, folder, *_ = plain.__module__.split(".")
    return f"{package}.{folder}.compiled", plain.__name__.removeprefix("_")


def prepare(say: Callable[[str], None], *modules: str) -> None:
    """Import `modules` ahead of their use (for instance while a file is read); `say` is called if that compiles, or fails."""
    if os.environ.get(OFF):
        return
    timer = threading.Timer(SLOW_LOAD_S, say, ("preparing compiled code, which takes half a minute the first time",))
    timer.daemon = True
    timer.start()
    try:
        missing = None in [_imported(module) for module in modules]
    finally:
        timer.cancel()
    if missing:
        say("numba cannot be imported here, without which a large trace takes about twice as long")


def jit(*signatures: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's `njit` for these signatures, now, kept for later processes wherever that is possible.

    What is kept under one name must never differ, whatever wrote it, and whenever that was killed: numba replaces a function's
    index before its code, and numbers the codes of one function in the order in which they come. So signatures are
    compiled in their order when the module is imported, and the name says all that the code depends on.
    """
    import numba

    def wrap(function: Callable[..., Any]) -> Any:
        function.__qualname__ += f"_{_made_of(function.__code__.co_filename)}"
        options = {"nogil": True, "error_model": "numpy"}
        with contextlib.suppress(Exception):  # what is kept is damaged, or nothing can be kept
            return numba.njit(list(signatures), cache=True, **options)(function)
        with contextlib.suppress(Exception):
            numba.njit(cache=True, **options)(function).recompile()  # forgets what is kept
            return numba.njit(list(signatures), cache=True, **options)(function)
        return numba.njit(list(signatures), **options)(function)

    return wrap


@cache
def _made_of(file: str) -> str:
    """A digest of what the machine code of module `file` depends on: the source, the compiler and the processor."""
    import llvmlite
    import llvmlite.binding as llvm
    import numba

    parts = (numba.__version__, llvmlite.__version__, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    return hashlib.sha256("\0".join([Path(file).read_text("utf-8"), *parts]).encode()).hexdigest()[:16]
