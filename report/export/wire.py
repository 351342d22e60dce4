"""Protocol Buffers wire format for many messages of one shape at once, with numpy instead of a loop.

Every field of n messages is a `Part`: a matrix of n rows of bytes, and a mask of the bytes that count.

    values      bytes         mask            row by row, only what counts:
    5           05 00         x .             08 05
    300         ac 02         x x             08 ac 02        (each behind its tag, here 08)

A message around parts has their masked lengths as its own length, so nesting needs no loop either. Integers come out in
their shortest form, exactly as the official library writes them.

Source of the format: https://protobuf.dev/programming-guides/encoding/ (varint, fixed 64-bit, length-delimited).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2

Present = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One field of n messages. `data` and `mask` have shape (n, width)."""

    data: npt.NDArray[np.uint8]
    mask: Present


def varint(field: int, values: Numbers, present: Present | None = None) -> Part:
    """Field `field` of type int64, uint64, int32, enum or bool. Rows that are not `present` have no such field."""
    return _tagged(field, VARINT, _varint(values), present)


def fixed64(field: int, values: Numbers, present: Present | None = None) -> Part:
    """Field `field` of type fixed64."""
    data = np.ascontiguousarray(values.astype("<u8")).view(np.uint8).reshape(len(values), 8)
    return _tagged(field, FIXED64, Part(data, np.ones(data.shape, bool)), present)


def constant(field: int, value: int, rows: int, present: Present | None = None) -> Part:
    """Integer field `field` with the same `value` in `rows` messages."""
    return _same(uint(field, value), rows, present)


def message(field: int, *parts: Part, present: Present | None = None) -> Part:
    """Field `field` of a message type made of `parts`, in their order."""
    inner = _join(parts)
    length = _varint(inner.mask.sum(axis=1, dtype=np.uint64))
    return _tagged(field, DELIMITED, _join((length, inner)), present)


def encode(part: Part) -> bytes:
    """The bytes of all rows, one after the other."""
    return part.data[part.mask].tobytes()


def uint(field: int, value: int) -> bytes:
    """A single integer field; `value` is not negative."""
    return _number(field << 3 | VARINT) + _number(value)


def text(field: int, value: str) -> bytes:
    """A single text field."""
    return nested(field, value.encode("utf-8"))


def nested(field: int, *content: bytes) -> bytes:
    """A single message field around the encoded fields `content`."""
    body = b"".join(content)
    return _number(field << 3 | DELIMITED) + _number(len(body)) + body


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(values: Numbers) -> Part:
    """Base 128, least significant group first, the high bit set on all bytes but the last. Negatives as 2**64 + value."""
    numbers = values.astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values.astype(np.uint64)
    width = max(1, (int(numbers.max(initial=0)).bit_length() + 6) // 7)
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    groups = numbers[:, None] >> shifts
    mask = groups > 0
    mask[:, 0] = True
    data = (groups & np.uint64(0x7F)).astype(np.uint8)
    data[:, :-1] |= mask[:, 1:].astype(np.uint8) << np.uint8(7)
    return Part(data, mask)


def _tagged(field: int, wire: int, body: Part, present: Present | None) -> Part:
    joined = _join((_same(_number(field << 3 | wire), len(body.data), None), body))
    return joined if present is None else Part(joined.data, joined.mask & present[:, None])


def _same(content: bytes, rows: int, present: Present | None) -> Part:
    data = np.broadcast_to(np.frombuffer(content, np.uint8), (rows, len(content)))
    mask = np.ones(data.shape, bool) if present is None else np.broadcast_to(present[:, None], data.shape)
    return Part(data, mask)


def _join(parts: tuple[Part, ...]) -> Part:
    return Part(np.hstack([p.data for p in parts]), np.hstack([p.mask for p in parts]))
