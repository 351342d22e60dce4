"""HTML that cannot be broken by what a trace says.

`Html` is the only type that templates do not escape, and only this module and the page's own files make it. Names in a trace
may hold markup, control characters, bidirectional overrides, lone surrogates, or a megabyte of text.
"""

from __future__ import annotations

import html
import json
from typing import Any, Final

LONGEST_NAME: Final = 160
"""Characters of a recorded name that are shown; a demangled kernel name is rarely longer than what tells it apart."""


class Html(str):
    """Text that is already markup; templates leave it as it is."""

    __slots__ = ()

    def __html__(self) -> Html:
        return self


def escape(text: str) -> Html:
    """`text` for element content and double-quoted attributes, its unseen characters made visible."""
    return Html(html.escape(visible(text), quote=True))


def visible(text: str) -> str:
    r"""`text` with what cannot be seen written as escapes (``\x1b``, ``\u202e``), so that nothing hides or reorders.

    That is every character outside letters, marks, numbers, symbols, punctuation and the plain space: controls,
    bidirectional marks, line separators, odd spaces, lone surrogates, unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clip(text: str, longest: int = LONGEST_NAME) -> str:
    """`text`, its middle replaced by an ellipsis where it is longer than `longest` characters.

    The end is kept as well because template arguments make long kernel names differ there.
    """
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def embedded_json(value: Any) -> Html:
    """`value` as JSON that is safe inside ``<script>``: no ``<``, ``>`` or ``&`` survives, NaN raises `ValueError`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
