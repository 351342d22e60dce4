"""Telling the C library to keep freed memory, where it is glibc.

As it comes, glibc gives a large freed array back to the kernel at once (if it was mapped) or whenever the top of the
heap happens to be free, and the next array is made of new pages, each faulted in and cleared. For a program that makes
and frees large arrays all the time that costs as much as the work on them, and how often it happens is an accident of
the order in which they die.
"""

from __future__ import annotations

import ctypes
from typing import Final

LARGEST_KEPT: Final = 32 << 20
"""Bytes: M_MMAP_THRESHOLD's greatest value (DEFAULT_MMAP_THRESHOLD_MAX, mallopt(3)); larger arrays are mapped anew."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_NEVER: Final = -1


def keep_freed_memory(at_most: int | None = None, *, one_arena: bool = False) -> bool:
    """Keep freed arrays of up to `LARGEST_KEPT` bytes for reuse; returns whether the C library understood.

    Of the top of the heap `at_most` bytes are kept, null: all. `one_arena` lets threads share the main arena, as others
    never keep large arrays. To be called before the allocations it is meant for.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # another C library: slower, but the same
    settings = [(_M_MMAP_THRESHOLD, LARGEST_KEPT), (_M_TRIM_THRESHOLD, _NEVER if at_most is None else at_most)]
    if one_arena:
        settings.append((_M_ARENA_MAX, 1))
    understood = [mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings]
    return all(understood)
