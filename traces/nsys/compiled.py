"""Integers out of SQLite's b-tree pages, compiled. See `nsys.pages` for what these pages are and who checks the answers.

Every offset that comes out of the file is compared with the bounds of its page before it is used, and the buffers end in
`PAD` spare bytes, so that an integer may be loaded before it is known to lie inside. Anything unexpected ends the decoding
with a status other than `DONE`; the caller then reads the table another way.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import int64, njit, uint8
from numba.types import Array

from ..engine import jit

PAD = 32
"""Bytes that a buffer of pages must have behind its last page."""

NULL = np.int64(-(2**63))
"""What stands for null in decoded columns. A cell that really holds it is unexpected."""

DONE, STRANGE = 0, 1
"""How a decoding ended."""

LEAF, INTERIOR = 0x0D, 0x05

_BYTES = Array(uint8, 1, "C", readonly=True)
_IN = Array(int64, 1, "C", readonly=True)
_OUT = int64[::1]


@njit(inline="always")
def _u16(pages, at):
    return np.int64(pages[at]) << 8 | np.int64(pages[at + 1])


@njit(inline="always")
def _u32(pages, at):
    return _u16(pages, at) << 16 | _u16(pages, at + 2)


@njit(error_model="numpy")
def _long_varint(pages, at):
    """(value, position behind it) of a varint of more than one byte."""
    value = np.int64(0)
    for i in range(8):
        byte = np.int64(pages[at + i])
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | np.int64(pages[at + 8]), at + 9


@jit(int64(_BYTES, int64, _OUT, _OUT))
def children(page, usable, child, key):
    """The children of one interior page: fills `child` (page numbers) and `key` (the largest rowid in each; the last
    child's is not known and set to the highest there is). Returns how many, or -1 if the page is not an interior one or is
    damaged. The arrays hold at least ``usable // 6 + 1``."""
    n = _u16(page, 3)
    if page[0] != INTERIOR or 12 + 2 * n > usable or n + 1 > len(child):
        return -1
    for k in range(n):
        at = _u16(page, 12 + 2 * k)
        if at < 12 + 2 * n or at + 5 > usable:
            return -1
        child[k] = _u32(page, at)
        key[k], end = _long_varint(page, at + 4)
        if end > usable:
            return -1
    child[n], key[n] = _u32(page, 8), 2**63 - 1
    return n + 1


@jit(int64(_BYTES, _IN, int64, int64, _IN, int64[:, ::1], _OUT, _OUT, _OUT))
def rows(pages, leaves, usable, rowid, wanted, out, bits, nulls, done):
    """Decode the columns `wanted` (ascending positions in the record) of leaf pages into the rows of `out`.

    `leaves` are the pages' offsets in `pages`, `rowid` that of the first row; rowids must be consecutive. ``bits[w]`` gathers
    the bits that column w's values use (the zeros, of negative ones) and their signs, ``nulls[w]`` counts its nulls.
    Returns the status, and puts (leaves decoded, rows decoded) into `done`; stops before a page whose rows `out` has no room for.
    """
    room = out.shape[1]
    count = len(wanted)
    row = 0
    for i in range(len(leaves)):
        base = leaves[i]
        done[0], done[1] = i, row
        n = _u16(pages, base + 3)
        if pages[base] != LEAF or 8 + 2 * n > usable:
            return STRANGE
        if row + n > room:
            return DONE
        limit = base + usable
        for k in range(n):
            offset = _u16(pages, base + 8 + 2 * k)
            if offset < 8 + 2 * n or offset + 3 > usable:
                return STRANGE
            at = base + offset
            size = np.int64(pages[at])
            if size < 0x80:
                at += 1
            else:
                size, at = _long_varint(pages, at)
            found, at = _long_varint(pages, at)
            if found != rowid or size > usable - 35 or size < 1 or at + size > limit:
                return STRANGE  # a gap, or a row that continues on another page
            end = at + size
            head = np.int64(pages[at])
            body = at + head
            if head >= 0x80 or head < 1 or body > end:
                return STRANGE
            head = body
            at += 1
            column = 0
            w = 0
            while w < count:
                if at >= head:
                    return STRANGE  # a short record leaves its last columns to their defaults
                kind = np.int64(pages[at])
                if kind < 0x80:
                    at += 1
                else:
                    kind, at = _long_varint(pages, at)
                if at > head or kind < 0 or kind > 2 * usable + 13:
                    return STRANGE
                if kind < 7:
                    length = kind if kind < 5 else 2 * kind - 4
                elif kind < 12:
                    length = np.int64(8) if kind == 7 else np.int64(0)
                else:
                    length = (kind - 12) >> 1
                if column == wanted[w]:
                    if body + length > end or kind >= 10 or kind == 7:
                        return STRANGE  # text, blobs and reals are foreign here
                    if kind == 0:
                        value = NULL
                        nulls[w] += 1
                    elif kind >= 8:
                        value = kind - 8
                    else:
                        value = np.int64(np.int8(pages[body]))
                        for b in range(1, length):
                            value = value << 8 | np.int64(pages[body + b])
                        if value == NULL:
                            return STRANGE
                        bits[w] |= value ^ value >> 63 | value & NULL
                    out[w, row] = value
                    w += 1
                body += length
                column += 1
            if body > end or (at == head and body != end):
                return STRANGE
            row += 1
            rowid += 1
    done[0], done[1] = len(leaves), row
    return DONE
