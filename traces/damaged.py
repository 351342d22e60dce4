"""Events of a torch.profiler document that is not JSON: those that can be read, and how many were mended or are lost.

Profilers of several versions write what no JSON parser takes: quotes and backslashes of operator and kernel names as they are,
``inf`` and ``nan`` as numbers. Each event is parsed by itself; one that fails is mended in the two ways that such faults allow,
and left out if it still fails. A list of events that is never closed is read as Chrome's format allows; any other document
that ends early is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

Decode = Callable[[str, int], tuple[Any, int]]
"""The value that begins at a position of a text, and where it ends; raises `ValueError` for what is no JSON value."""

_LIST: Final = re.compile(r'"traceEvents"\s*:\s*\[')
_BETWEEN: Final = re.compile(r"[\s,]*")
_END: Final = re.compile(r"\}(?=\s*,\s*\{|\s*\])")
"""Where an event may end: before the next one, or before the end of the list."""

_ENDS_TRIED: Final = 8
_LONGEST: Final = 1 << 20
"""Ends that are tried for one event, and characters up to which it may reach."""

_NOT_FINITE: Final = re.compile(r'("(?:[^"\\]|\\.)*")|[-+]?\b(?:inf(?:inity)?|nan)\b', re.I | re.S)
_KEY_ENDS: Final = re.compile(r"\s*:")
_VALUE_ENDS: Final = re.compile(
    r'\s*(?:[}\]]\s*(?:[,}\]]|$)|,\s*"[^"]*"\s*:|,\s*"[^"]*"\s*[,\]]|,\s*(?:[-\d{\[]|true|false|null)[^"]*[,\]}])'
)
"""What follows the quote that ends a key, and the one that ends a value: the rest of an object or list."""

_ESCAPE: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')


def salvaged(text: str, decode: Decode) -> tuple[dict[str, Any], Counter[str]] | None:
    """The document in `text`, whose events are a list ``traceEvents`` or all of it, and counts of events by what became of them
    (``events_mended``, ``events_damaged``); null if it ends within an event, or holds no such list."""
    odd: Counter[str] = Counter()
    found = _LIST.search(text)
    bare = re.match(r"\s*\[", text)
    if bare is not None:
        start = bare.end()
    elif found is not None:
        start = found.end()
    else:
        return None
    events: list[Any] = []
    at = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]  # matches nothing, too
    while at < len(text) and text[at] != "]":
        event, at = _event(text, at, decode, odd)
        if at < 0:
            return None
        events += [] if event is None else [event]
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
    if bare is not None:
        return {"traceEvents": events}, odd
    if at >= len(text) or found is None:
        return None
    document = _first(_variants(f"{text[: found.end()]}{text[at:]}"), decode)
    if not isinstance(document, dict):
        return None
    return document | {"traceEvents": events}, odd


def _event(text: str, at: int, decode: Decode, odd: Counter[str]) -> tuple[Any, int]:
    """The event that begins at `at` (null if it is lost) and where it ends, -1 if nowhere."""
    try:
        return decode(text, at)
    except ValueError:
        pass
    ends = [m.end() for _, m in zip(range(_ENDS_TRIED), _END.finditer(text, at, at + _LONGEST), strict=False)]
    for end in ends:
        event = _first(_variants(text[at:end]), decode)
        if isinstance(event, dict):
            odd["events_mended"] += 1
            return event, end
    odd["events_damaged"] += 1
    return None, ends[0] if ends else -1


def _variants(text: str) -> Iterator[str]:
    """`text` with its faults mended, the surest way first."""
    finite = _finite(text)
    yield finite
    yield _finite(_quoted(text))


def _first(texts: Iterator[str], decode: Decode) -> Any:
    """The first of `texts` that is one whole JSON value; null without any."""
    for text in texts:
        try:
            value, end = decode(text, len(text) - len(text.lstrip()))
        except ValueError:
            continue
        if not text[end:].strip():
            return value
    return None


def _finite(text: str) -> str:
    """`text` with null for numbers that are none."""
    return _NOT_FINITE.sub(lambda match: match[1] or "null", text)


def _quoted(text: str) -> str:
    """`text` with a backslash before quotes that end nothing and before backslashes that escape nothing."""
    out: list[str] = []
    inside, is_key, at = False, False, 0
    while at < len(text):
        step = text[at]
        if inside and step == "\\":
            escape = _ESCAPE.match(text, at)
            step, width = (escape[0], len(escape[0])) if escape else ("\\\\", 1)
            out.append(step)
            at += width
            continue
        if step == '"':
            if inside and (_KEY_ENDS if is_key else _VALUE_ENDS).match(text, at + 1) is None:
                step = '\\"'
            else:
                inside = not inside
        elif not inside and step in "{,[:":
            is_key = step in "{,"  # in a list a text may be taken for a key: it is then lost, not misread
        out.append(step)
        at += 1
    return "".join(out)
