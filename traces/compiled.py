"""How this project compiles: numba, ahead of the first call, keeping the machine code for the next process.

Only modules of primitives import this, and they are imported only where numba is installed and an input is large: loading
numba and its cached code costs half a second. Compiled code gets C-contiguous arrays, possibly read-only ones, and
releases the interpreter's lock.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types


def array(dtype: Any, dimensions: int = 1, *, writable: bool = False) -> Any:
    """The type of a contiguous array argument."""
    return types.Array(dtype, dimensions, "C", readonly=not writable)


def compiled(*signatures: Any, inline: str = "never") -> Callable[[Any], Any]:
    """Compile for `signatures` when the module is imported (none: when first called from compiled code)."""

    def wrap(function: Any) -> Any:
        chosen = list(signatures) or None
        try:
            return numba.njit(chosen, cache=True, nogil=True, inline=inline)(function)
        except (RuntimeError, OSError):  # nowhere to keep the machine code
            return numba.njit(chosen, nogil=True, inline=inline)(function)

    return wrap
