"""Traces of tools that are not read here, recognised by their first bytes: what they are, and what to give instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Final

from .bundle import is_bundle

_FIRST_FIELD: Final = 0x0A
"""Tag of field 1 with a length: a packet of a Perfetto trace (trace.proto), a plane of XLA's profile (xplane.proto)."""

_PACKETS: Final = 16
"""Packets that are looked at."""

_XPLANE: Final = re.compile(rb"/(?:host|device):")
"""How XLA's profiler names the planes of a profile."""


def unread_kind(file: Path, named: Path) -> tuple[str, str] | None:
    """(what `file` is, what to give instead) for a trace of a known tool that is not read; null for anything else.

    `file` is unpacked; `named` is the path that somebody gave.
    """
    with file.open("rb") as stream:
        head = stream.read(4096)
        if is_page(head):
            return (
                "a page of aisp-trace",
                "run the command on the trace or run that it was made from, such as `aisp-trace report TRACE --scrub` for a "
                "page to send on",
            )
        if is_bundle(head):
            return (
                "a bundle of aisp-trace",
                f"`aisp-trace bundle verify {named}` checks it and judges its run again, `tar -xzf {named}` unpacks its traces",
            )
        if head[:1] != bytes([_FIRST_FIELD]) or not _is_chain(stream, file.stat().st_size):
            return None
    if _XPLANE.search(head):
        return (
            "a profile of JAX or TensorFlow (.xplane.pb), which is not read here",
            "record the program with `nsys profile --trace=cuda,nvtx` instead",
        )
    return (
        "a Perfetto trace (.pftrace), which is not read here",
        "give the trace that it was made from (an nsys .sqlite export, an .nsys-rep, or a torch.profiler .json)",
    )


def is_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is a page that ``aisp-trace report`` or ``ranks`` wrote."""
    return head.startswith(b"<!DOCTYPE html>") and b'<meta name="generator" content="aisp-trace ' in head[:4096]


def _is_chain(stream: BinaryIO, size: int) -> bool:
    """Whether the file begins with messages of field 1, each of which ends where the next one begins."""
    at, seen = 0, 0
    while at < size and seen < _PACKETS:
        stream.seek(at)
        start = stream.read(11)
        length, width = _varint(start[1:])
        if start[:1] != bytes([_FIRST_FIELD]) or not width or at + 1 + width + length > size:
            return seen > 1
        at += 1 + width + length
        seen += 1
    return seen > 0


def _varint(data: bytes) -> tuple[int, int]:
    """(value, bytes it takes) of a protobuf integer; no bytes if it does not end."""
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, place + 1
    return 0, 0
