"""plotly.js within the page: deflated and in base 85, unpacked by the page's script when the first chart comes into view.

The unpacked text runs as an inline script, whose hash the content security policy names: nothing is loaded, nothing is evaluated.
1.5 of 4.8 MB deflated, 1.8 in base 85 (2.0 in base 64).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

from plotly.offline import get_plotlyjs

from .base85 import base85
from .frame import hash_of

RAW = -zlib.MAX_WBITS
"""Deflate without a header, which browsers call ``deflate-raw``."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The packed `text`, and the hash that a policy names the unpacked script by."""

    text: str
    script_hash: str


@cache
def packed_plotly() -> Bundle:
    """plotly.js of the installed plotly."""
    script = get_plotlyjs()
    packer = zlib.compressobj(9, zlib.DEFLATED, RAW, 9)
    packed = packer.compress(script.encode()) + packer.flush()
    return Bundle(base85(packed), hash_of(script))
