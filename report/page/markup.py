"""HTML that cannot be broken by what a trace says.

    element("td", name, class_="path")      # `name` is escaped
    element("p", element("b", "x"), " y")   # Html passes through, str never does

`Html` is the only type that is not escaped, and only this module and the page's own files make it. Names in a trace
may hold markup, control characters, bidirectional overrides, lone surrogates, or a megabyte of text.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any, Final

LONGEST_NAME: Final = 160
"""Characters of a recorded name that are shown; a demangled kernel name is rarely longer than what tells it apart."""

_VOID: Final = frozenset({"meta", "br", "wbr"})


class Html(str):
    """Text that is already markup; templates leave it as it is."""

    __slots__ = ()

    def __html__(self) -> Html:
        return self


Child = str | int | None
"""What an element may hold; a `str` is escaped unless it is `Html`, null is left out."""


def element(name: str, *children: Child | Iterable[Child], **attributes: str | int | bool | None) -> Html:
    """``<name attributes>children</name>``.

    A trailing underscore in an attribute is dropped (``class_``), others become hyphens (``aria_label``); null and
    False leave the attribute out, True writes it bare.
    """
    parts = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        parts.append(f" {word}" if value is True else f' {word}="{escape(str(value))}"')
    head = f"<{name}{''.join(parts)}>"
    return Html(head) if name in _VOID else Html(f"{head}{join(children)}</{name}>")


def join(children: Iterable[Child | Iterable[Child]]) -> Html:
    """`children` one after the other, escaped where they are plain text; nested iterables are flattened."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            out.append(str(child))
        elif isinstance(child, (str, int)):
            out.append(escape(str(child)))
        else:
            out.append(str(join(child)))
    return Html("".join(out))


def escape(text: str) -> Html:
    """`text` for element content and double-quoted attributes, its unseen characters made visible."""
    return Html(html.escape(visible(text), quote=True))


def visible(text: str) -> str:
    r"""`text` with what cannot be seen written as escapes (``\x1b``, ``\u202e``), so that nothing hides or reorders.

    That is every character outside of letters, marks, numbers, symbols, punctuation and the plain space: controls,
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
