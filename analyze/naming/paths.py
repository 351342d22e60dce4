"""Paths of stages: names from the outermost to the innermost, parted by slashes.

decode/layer_3/attn      decode, then layer_3 in it, then attn in that
read\\/write/copy        a slash that belongs to a name is escaped: read/write, then copy
"""

from __future__ import annotations

import re
from typing import Final

_SLASH: Final = re.compile(r"(?<!\\)((?:\\\\)*)/")


def split(path: str) -> list[str]:
    """The names in a path; a slash that belongs to a name is escaped by a backslash and does not part it."""
    return _SLASH.sub("\\1\x00", path).split("\x00")


def at_or_above(path: str) -> list[str]:
    """The path itself and those it nests in, the outermost first."""
    names = split(path)
    return ["/".join(names[: depth + 1]) for depth in range(len(names))]
