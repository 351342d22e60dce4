"""Scoped switches for torch.compile and its CUDA graphs.

    with torch_compile(False):          # compiled functions run eagerly, and nothing is compiled
        model(x)
    with cuda_graphs(True):             # what is compiled inside replays CUDA graphs
        fast = torch.compile(model); fast(x)

Both put back what was there, also after an exception, and nest. torch's stance is one for the whole process: while scopes of
several threads are open at once, the youngest that is still open counts, for all threads; the last one to close puts back what
was there before the first. Configuration of the inductor belongs to a thread in newer versions of torch and to the process in
older ones (its own ``config.patch`` is used): do not open scopes of it in several threads at once there.

Neither reaches back: code that was compiled with CUDA graphs goes on using them, and what runs in a scope of the other thread
when the stance changes is not stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_scopes: dict[object, str] = {}
_before: list[Any] = []
"""What knows the stance that was there before the first of `_scopes`; empty without scopes."""


@contextmanager
def torch_compile(on: bool) -> Iterator[None]:
    """Inside, functions of torch.compile are compiled as usual, or run eagerly. Raises `RuntimeError` in compiled code."""
    import torch

    me, stance = object(), "default" if on else "force_eager"
    with _lock:
        changed = torch.compiler.set_stance(stance)  # takes effect at once; leaving it puts back what it found
        if not _scopes:
            _before[:] = [changed]
        _scopes[me] = stance
    try:
        yield
    finally:
        with _lock:
            del _scopes[me]
            if _scopes:
                torch.compiler.set_stance(next(reversed(_scopes.values())))
            else:
                _before.pop().__exit__(None, None, None)


@contextmanager
def cuda_graphs(on: bool) -> Iterator[None]:
    """Inside, what torch.compile makes for a GPU replays CUDA graphs, or does not."""
    from torch._inductor import config

    with config.patch({"triton.cudagraphs": on}):
        yield
