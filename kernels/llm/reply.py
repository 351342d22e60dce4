"""The source in what a model answers."""

from __future__ import annotations

import re
from typing import Final

from ..emit import DIVIDER, Part
from ..untrusted import objection

MOST_SOURCE: Final = 64 << 10
"""Bytes. The longest part of a template has 10 kB."""

_BLOCK: Final = re.compile(r"(?ms)^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$")
_INCLUDE: Final = re.compile(r"(?m)^[ \t]*#[ \t]*include[ \t]*[<\"]([\w./]+)[>\"].*$\n?")
_DIVIDER: Final = re.compile(rf"(?m)^[ \t]*{re.escape(DIVIDER)}.*$")


class NoSource(Exception):
    """A reply without a source that could be tried. One sentence."""


class NotAllowed(Exception):
    """A source that may not be compiled. One sentence."""


def source_in(text: str, finish: str) -> str:
    """The last code block with a launcher, in ASCII; raises `NoSource`."""
    blocks = [block for block in _BLOCK.findall(text.replace("\r\n", "\n")) if "launch_task" in block]
    if not blocks:
        if finish == "length":
            raise NoSource("the reply was cut off at the token limit; write less beside the code")
        raise NoSource("the reply has no fenced code block with launch_task")
    return str(blocks[-1]).encode("ascii", "replace").decode()


def part_in(source: str, model: str) -> Part:
    """`source` as the parts of a file; raises `NotAllowed`. Headers move to the file's head."""
    if len(source) > MOST_SOURCE:
        raise NotAllowed(f"the source has {len(source):,} bytes, and {MOST_SOURCE:,} are allowed")
    if (why := objection(source)) is not None:
        raise NotAllowed(why)
    headers = dict.fromkeys(_INCLUDE.findall(source))
    device, divider, host = _divided(_INCLUDE.sub("", source))
    if not divider:
        device, host = "", device  # nvcc takes kernels there, too; only NVRTC then has nothing to compile
    name = re.sub(r"[^\w.:/+-]", "?", model, flags=re.ASCII)[:80]
    return Part(device.strip("\n"), host.strip("\n"), name, tuple(headers))


def _divided(text: str) -> tuple[str, str, str]:
    found = _DIVIDER.search(text)
    return (text, "", "") if found is None else (text[: found.start()], found[0], text[found.end() :])
