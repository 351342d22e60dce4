"""Everything that is wrong with one document, reported at once: a line per fault, at most the first few.

    runs/p/manifest.json: variants[1].recording.wall_ns: expected a whole number, found text
    runs/p/manifest.json: hardware: unknown key 'drivr'; did you mean 'driver'?

Only the standard library is needed here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from .errors import InputError

MOST: Final = 20
"""Faults reported per document: beyond those, editing and trying again costs less than reading on."""

LONGEST: Final = 400
"""Characters of a path within a document, and of what is wrong there. Ours have up to 200."""


def refusal(where: str, faults: Sequence[tuple[str, str]]) -> InputError:
    """The error that tells `faults`: pairs of the path of a value inside of the document `where`, and a sentence."""
    lines = [": ".join(p for p in (where, _brief(path), _brief(sentence)) if p) for path, sentence in faults[:MOST]]
    more = len(faults) - MOST
    return InputError(*lines, *([f"{where}: and {more} more fault{'s' if more > 1 else ''}"] if more > 0 else []))


def _brief(text: str) -> str:
    """`text`, which may hold a key or a value of somebody else's, of a length that can be read."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def found(value: Any) -> str:
    """What `value` is in JSON: ``text``, ``an object`` ..."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def nearest(word: str, known: Iterable[str], also: str = "") -> str:
    """The end of a sentence on an unknown `word`: ``; did you mean 'x'?`` for the closest of `known`, or nothing.

    ``-V`` is close to ``-v``. `also` is told in either case: as a sentence behind the question, else behind a semicolon.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1) or [name for name in names if name.lower() == word.lower()]
    if not close:
        return f"; {also}" if also else ""
    return f"; did you mean {close[0]!r}?" + (f" {also[0].upper()}{also[1:]}" if also else "")
