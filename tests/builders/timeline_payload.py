"""The page's timeline data read back, by code that shares nothing with what wrote it."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

KINDS = ("migration", "compute", "graph", "comm", "h2d", "d2h", "p2p", "d2d", "h2h", "memset")


@dataclass(frozen=True)
class Op:
    """One operation as the page has it; times count from its zero."""

    start: int
    end: int
    kind: str
    name: str
    stage: str
    nbytes: int | None
    call: int


class Payload:
    """One side: its `header`, and columns by number."""

    def __init__(self, text: str) -> None:
        raw = zlib.decompress(base64.b85decode(text.replace(".", "<")))
        (size,) = struct.unpack_from("<I", raw)
        self.header: dict[str, Any] = json.loads(raw[4 : 4 + size])
        self._columns: list[list[int]] = []
        at = 4 + size
        for rows, planes, signed in self.header["columns"]:
            values = []
            for row in range(rows):
                value = sum(raw[at + plane * rows + row] << (8 * plane) for plane in range(planes))
                values.append((value >> 1 if value % 2 == 0 else -(value >> 1) - 1) if signed else value)
            self._columns.append(values)
            at += rows * planes
        assert at == len(raw)

    def column(self, number: int) -> list[int]:
        """The values of a column."""
        return self._columns[number]

    def intervals(self, lane: dict[str, Any]) -> list[tuple[int, int, int]]:
        """(start, end, class) of each item of a lane."""
        classes = self.column(lane["class"])
        queues: dict[int, list[int]] = defaultdict(list)
        lengths = iter(self.column(lane["length"]))
        for cls in sorted(classes):
            queues[cls].append(next(lengths))
        for queue in queues.values():
            queue.reverse()
        out, at = [], 0
        for step, cls in zip(self.column(lane["step"]), classes, strict=True):
            start = at + step
            at = start + queues[cls].pop()
            out.append((start, at, cls))
        return out

    def ops(self, lane: dict[str, Any]) -> list[Op]:
        """The operations of a stream."""
        table = {key: self.column(number) for key, number in self.header["classes"].items()}
        sized, names = iter(self.column(lane["bytes"])), self.header["names"]
        out, call = [], 0
        for (start, end, cls), launch in zip(self.intervals(lane), self.column(lane["call"]), strict=True):
            nbytes = next(sized) - 1 if table["sized"][cls] else -1
            if launch:
                code = launch - 1
                call += code // 2 if code % 2 == 0 else -(code + 1) // 2
            out.append(
                Op(
                    start,
                    end,
                    KINDS[table["kind"][cls]],
                    names[table["name"][cls]],
                    names[table["stage"][cls]],
                    nbytes if nbytes >= 0 else None,
                    call if launch else -1,
                )
            )
        return out

    def calls(self) -> list[tuple[int, int, str]]:
        """(start, end, name) of each call by its number."""
        names, out = self.header["names"], []
        for thread in self.header["threads"]:
            if "calls" in thread:
                classes = thread["calls"]["classes"]
                out += [(s, e, names[classes[cls][0]]) for s, e, cls in self.intervals(thread["calls"])]
        return out

    def pieces(self, device: dict[str, Any], gaps: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
        """(start, end, cause, path) of the pieces of `gaps`, which must be as many as the page expects."""
        many, lengths = self.column(device["pieces"]), iter(self.column(device["lengths"]))
        which, out = iter(self.column(device["which"])), []
        for (start, end), n in zip(gaps, many, strict=True):
            at = start
            for i in range(n):
                stop = end if i == n - 1 else at + next(lengths)
                cause, path = device["causes"][next(which)]
                assert at < stop <= end
                out.append((at, stop, cause, path))
                at = stop
        assert next(lengths, None) is None and next(which, None) is None
        return out


def payloads(page: str) -> list[Payload]:
    """The sides of a page."""
    return [Payload(text) for text in re.findall(r"<script [^>]*data-timeline=[^>]*>([^<]*)</script>", page)]
