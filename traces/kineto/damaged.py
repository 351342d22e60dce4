"""One event that a JSON parser refuses, as far as it can be read, and what had to be repaired.

Profilers of several versions write what no JSON parser takes: quotes, backslashes and control characters of names as they are,
bytes that are not UTF-8, ``inf`` and ``nan`` as numbers. An event is repaired in the ways that such faults allow, the surest
first. What still is not JSON, or seems to be two events in one after repair (a key that it has twice, a text in which another
event begins), is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NoReturn

QUOTES, CONTROLS, NUMBERS, NOT_UTF8 = "mended_quotes", "mended_controls", "mended_numbers", "mended_text"
"""What was repaired: unescaped quotes or backslashes, raw control characters, inf or nan, bytes that are not UTF-8. What
printf of Windows makes of inf and nan is among them."""

COMMAS: Final = "mended_commas"
LOST: Final = "events_damaged"


@dataclass(frozen=True, slots=True)
class Found:
    """The JSON value at the start of some bytes (null if it is `LOST`), how many bytes it takes, and what was repaired."""

    value: Any
    length: int
    repaired: tuple[str, ...]


_LONGEST_INTEGER: Final = 4_000
"""Integers with more digits stay text: no column can hold them, and Python converts no more than 4,300."""


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _LONGEST_INTEGER else text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _decoder(**more: Any) -> json.JSONDecoder:
    return json.JSONDecoder(parse_float=str, parse_int=_integer, **more)


_DECODERS: Final[tuple[tuple[tuple[str, ...], json.JSONDecoder], ...]] = (
    ((), _decoder(parse_constant=_no_constant)),
    ((CONTROLS,), _decoder(parse_constant=_no_constant, strict=False)),
    ((NUMBERS,), _decoder()),
    ((CONTROLS, NUMBERS), _decoder(strict=False)),
)
"""What each decoder lets pass."""

_MENDED: Final = _decoder(parse_constant=_no_constant, strict=False, object_pairs_hook=_once)

_ENDS: Final = (
    re.compile(r'\}(?=\s*,\s*\{\s*"(?:ph|cat|name|pid|tid|ts|dur|id|args)"\s*:)'),
    re.compile(r'\}(?=\s*\]\s*(?:,\s*"|\}\s*$|$))'),
    re.compile(r"\}(?=\s*,\s*\{|\s*\])"),
)
"""Where an event may end, the likeliest first: before what begins as events do, before the end of a list with a member or nothing
behind it, before any object or end of a list."""

_ENDS_TRIED: Final = 4
"""Of each kind."""

_LONGEST_MENDED: Final = 1 << 20
"""Characters of an event in which quotes are looked at one by one."""

_WORD: Final = 8
"""Characters before the end of what is there that may be the start of a word or number."""

_TEXT_PATTERN: Final = r'("(?:[^"\\]|\\.)*")'
_NOT_FINITE: Final = re.compile(
    _TEXT_PATTERN + r"|[-+]?(?:\b(?:inf(?:inity)?|nan(?:\(\w*\))?)(?!\w)|\b1\.#(?:inf|ind|qnan|snan)\d*)", re.I | re.S
)
_LAST_COMMA: Final = re.compile(_TEXT_PATTERN + r"|,(?=\s*[}\]])", re.S)
_KEY_ENDS: Final = re.compile(r"\s*:")
_VALUE_ENDS: Final = re.compile(
    r'\s*(?:[}\]]\s*(?:[,}\]]|$)|,\s*"[^"]*"\s*:|,\s*"[^"]*"\s*[,\]]|,\s*(?:[-\d{\[]|true|false|null)[^"]*[,\]}])'
)
"""What follows the quote that ends a key, and the one that ends a value: the rest of an object or list."""

_ESCAPE: Final = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_CONTROL: Final = re.compile(r"[\0-\x1f]")
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")


def first_value(data: bytes, *, more: bool) -> Found | None:
    """The value at the start of `data`; null if these bytes do not seem to hold all of it.

    Where there are no `more` bytes, one that is cut off is damaged. Raises `RecursionError` for one that nests too deeply.
    """
    shape = data.decode("latin-1")  # one character a byte; all that gives JSON its shape is ASCII
    for repaired, decoder in _DECODERS:
        try:
            end = decoder.raw_decode(shape)[1]
        except json.JSONDecodeError as exc:
            if more and (exc.msg.startswith("Unterminated string") or exc.pos >= len(shape) - _WORD):
                return None
            continue
        except ValueError:
            continue
        text, damage = _text(data[:end])
        return Found(_whole(decoder.raw_decode(text)[0], text), end, (*repaired, *damage))
    if more and len(shape) <= _LONGEST_MENDED and _ENDS[0].search(shape) is None:
        return None
    ends = list(dict.fromkeys(match.end() for kind in _ENDS for match in islice(kind.finditer(shape), _ENDS_TRIED)))
    for end in ends:
        text, damage = _text(data[:end])
        mended = [(value, repaired) for repaired, variant in _variants(text) if (value := _event(variant)) is not None]
        if mended:  # a quote that was taken for a letter hides the keys behind it
            value, repaired = max(mended, key=lambda one: len(one[0]))
            return Found(_whole(value, text), end, (*repaired, *damage))
    return Found(None, ends[0], (LOST,)) if ends else None


def _event(text: str) -> dict[str, Any] | None:
    """The one event that `text` is; null if it is none, or seems to hold another one."""
    try:
        value, used = _MENDED.raw_decode(text)
    except ValueError:
        return None
    whole = used == len(text) and isinstance(value, dict) and isinstance(value.get("ph"), str)
    return value if whole and not _swallowed(value) else None


def whole_document(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """The JSON document `data`, and what was repaired; raises `ValueError` if it is none."""
    text, damage = _text(data.strip())
    tries = [(repaired, text, decoder) for repaired, decoder in _DECODERS]
    tries += [(repaired, variant, _MENDED) for repaired, variant in _variants(text)]
    for repaired, variant, decoder in tries:
        try:
            return _whole(decoder.decode(variant), variant), (*repaired, *damage)
        except ValueError:
            continue
    _MENDED.decode(text)
    raise ValueError("it holds more than one value")


def _text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """`data` as text, and what became of bytes that are none."""
    try:
        return data.decode(), ()
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace"), (NOT_UTF8,)


_NEXT_EVENT: Final = re.compile(r'\}\s*,\s*\{\s*"|\b(?:ph|ts|dur)"?\s*:\s*["\d]')
"""What no name holds: the start of an object behind another one, or a member that every event has."""


def _swallowed(value: Any) -> bool:
    """Whether a text in `value` holds the start of another event."""
    if isinstance(value, dict):
        return any(map(_swallowed, value)) or any(map(_swallowed, value.values()))
    return (
        any(map(_swallowed, value))
        if isinstance(value, list)
        else bool(isinstance(value, str) and _NEXT_EVENT.search(value))
    )


def _variants(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """`text` with its faults mended, the surest way first, and which faults those were."""
    controls = (CONTROLS,) if _CONTROL.search(text.translate(_LAYOUT)) else ()
    sources: list[tuple[tuple[str, ...], str]] = [((), text)]
    if len(text) <= _LONGEST_MENDED:
        sources += [((QUOTES,), _quoted(text, escapes=escapes)) for escapes in (True, False)]
    for quotes, variant in sources:
        finite = _NOT_FINITE.sub(_or("null"), variant)
        ended = _LAST_COMMA.sub(_or(""), finite)
        numbers = (NUMBERS,) if finite != variant else ()
        commas = (COMMAS,) if ended != finite else ()
        yield ((*quotes, *numbers, *commas, *controls), ended)


_LAYOUT: Final = dict.fromkeys(map(ord, "\t\n\r"))
"""Control characters between values, which JSON allows; within texts they are passed over."""


def _or(other: str) -> Callable[[re.Match[str]], str]:
    """What replaces a match: the text that it is, else `other`."""
    return lambda match: match[1] or other


def _quoted(text: str, *, escapes: bool) -> str:
    """`text` with a backslash before quotes that end nothing and before backslashes that escape nothing.

    Without `escapes` no backslash escapes anything: that of ``"C:\\"`` then does not hide the end of the text.
    """
    out: list[str] = []
    inside, is_key, at = False, False, 0
    while at < len(text):
        step = text[at]
        if inside and step == "\\":
            escape = _ESCAPE.match(text, at) if escapes else None
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


def _whole(value: Any, text: str) -> Any:
    """`value`, parsed from `text`, with a question mark for each half of a character that an escape made."""
    return _replaced(value) if _HALF.search(text) else value


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_replaced(one) for one in value]
    return {_replaced(k): _replaced(v) for k, v in value.items()} if isinstance(value, dict) else value
