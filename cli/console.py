"""How commands print: escaped text, tables that fit 80 columns, and JSON.

Everything a trace or a manifest says is foreign text, so all that is printed goes through `print_line`: a kernel's name cannot
move the cursor, recolour the terminal, break a line, or begin one that a CI runner takes for a command. Times arrive here as
integer nanoseconds and become milliseconds here, once. Null is shown as ``-``, never as zero.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

from ..traces.content import one_line, printed

NOTHING: Final = "-"
"""What is shown where a figure does not exist."""

_CONTAINERS: Final = (dict, list, tuple)
_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=True).encode

escape: Final = one_line
"""Foreign text on one line, with nothing in it that a terminal obeys."""

GAP: Final = "  "
"""Between two columns of a table."""


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. Only `shrink` columns give way when the table is too wide; none becomes narrower than 8."""

    title: str
    align: Literal["left", "right"] = "right"
    shrink: bool = False


def say(line: str = "") -> None:
    """Print one line on stdout: a line break in it came from outside and is escaped like other control characters."""
    print_line(line)


def say_lines(text: str) -> None:
    """Print the lines of `text`, such as a `table`, whose foreign parts are escaped already: its line breaks are ours."""
    for line in text.split("\n"):
        print_line(line)


def print_line(line: str, stream: TextIO | None = None) -> None:
    """The one place that prints text, by default on stdout."""
    print(printed(escape(line)), file=stream)


def say_wrapped(text: str, first: str = "", rest: str = "  ") -> None:
    """Print one sentence in lines of the terminal's width, the first led by `first`, the others by `rest`.

    Foreign names in it are escaped before their length is counted; a word that is longer than a line stays whole.
    """
    lines = textwrap.wrap(
        escape(text),
        terminal_width(),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines or [""]:
        print_line(line)


def warn(sentence: str) -> None:
    """Print one line on stderr, as every message of the program: ``aisp-trace: <sentence>``."""
    print_line(f"aisp-trace: {sentence}", sys.stderr)


def print_json(document: Any) -> None:
    """Print `document` as ASCII JSON, keys in their own order. NaN and infinity raise `ValueError`: JSON has none.

    What a CI runner would obey (`printed`) is written as an escape of JSON's, which stands for the same text.
    """
    print(re.sub(r"#(?=#\[|#vso\[)", r"\\u0023", json_text(document)))


def json_text(document: Any) -> str:
    """`document` as ASCII JSON in lines: each list or object of plain values, such as a table's row, takes one.

    So a row is found by `grep` and a difference shows whole rows, and the encoder of the standard library, which is in C
    only for one line, writes most of it: a quarter of the time of ``indent=1``.
    """
    lines: list[str] = []
    _write(document, "", lines)
    return "".join(lines)


def _write(value: Any, margin: str, out: list[str]) -> None:
    """Append the text of `value`, which begins in a line whose indentation is `margin`."""
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, _CONTAINERS) or not any(isinstance(m, _CONTAINERS) for m in members):
        out.append(_encode(value))
        return
    inner = f"{margin} "
    brackets = "{}" if isinstance(value, dict) else "[]"
    lead = f"{brackets[0]}\n{inner}"
    for key, member in value.items() if isinstance(value, dict) else enumerate(value):
        out.append(lead)
        if isinstance(value, dict):
            out.append(f"{_encode(str(key))}: ")
        _write(member, inner, out)
        lead = f",\n{inner}"
    out.append(f"\n{margin}{brackets[1]}")


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], width: int | None = None) -> str:
    """`rows` under `columns` as text without a trailing line break; just the titles where there are no rows.

    `width` is the widest line wanted (default: the terminal's, or 80 where there is none). Columns marked `shrink`
    lose their middle until the lines fit; if that is not enough the lines stay longer: figures are never cut.
    Cells are shown with `str`, null as ``-``. Raises `ValueError` for a row of another length than `columns`.
    """
    limit = terminal_width() if width is None else width
    cells = [[escape(column.title) for column in columns]]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells, the table {len(columns)} columns")
        cells.append([NOTHING if value is None else escape(str(value)) for value in row])
    widths = _fit(columns, [max(map(display_width, column)) for column in zip(*cells, strict=True)], limit)
    return "\n".join(_line(columns, line, widths) for line in cells)


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` columns: the middle gives way, since names differ at both ends."""
    if display_width(text) <= width:
        return text
    head, tail = width // 2, (width - 1) // 2
    return _take(text, head) + "…" + _take(text[::-1], tail)[::-1]


def ms(ns: float | None, digits: int = 3) -> str:
    """Nanoseconds as milliseconds, without the unit: 1234567890 -> ``1,234.568``; null -> ``-``."""
    return NOTHING if ns is None else f"{ns / 1e6:,.{digits}f}"


def duration(ns: float | None) -> str:
    """Nanoseconds in the unit a person would choose: ``640 ns``, ``12.3 us``, ``4.57 ms``, ``1.20 s``."""
    if ns is None:
        return NOTHING
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= scale:
            return f"{_three(ns / scale)} {unit}"
    return f"{ns:.0f} ns"


def size(nbytes: float | None) -> str:
    """Bytes in decimal units, as link speeds are given: ``805 MB``; null -> ``-``."""
    if nbytes is None:
        return NOTHING
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(nbytes) >= scale:
            return f"{_three(nbytes / scale)} {unit}"
    return f"{nbytes:.0f} B"


def rate(bytes_per_s: float | None) -> str:
    """Bytes per second as GB/s, without the unit: 51.06e9 -> ``51.06``; null -> ``-``."""
    return NOTHING if bytes_per_s is None else f"{bytes_per_s / 1e9:,.2f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent: 0.845 -> ``84.5 %``; null (nothing to divide by) -> ``-``."""
    return NOTHING if fraction is None else f"{fraction * 100:.{digits}f} %"


def terminal_width() -> int:
    """Columns of the terminal, at least 80; 80 where stdout is none (a file, a pipe, CI)."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 80
    return max(80, shutil.get_terminal_size((80, 24)).columns)


def display_width(text: str) -> int:
    """Terminal columns `text` takes: wide East Asian characters two, combining marks none, all others one."""
    if text.isascii():
        return len(text)
    return sum(_char_width(c) for c in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _three(value: float) -> str:
    """`value` with three significant figures and no exponent."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def _take(text: str, width: int) -> str:
    out, used = [], 0
    for char in text:
        used += _char_width(char)
        if used > width:
            break
        out.append(char)
    return "".join(out)


def _fit(columns: Sequence[Column], widths: list[int], limit: int) -> list[int]:
    """Take the excess from the widest shrinkable column, a character at a time, so that they end up equally wide."""
    least = [max(8, display_width(c.title)) if c.shrink else w for c, w in zip(columns, widths, strict=True)]
    while sum(widths) + len(GAP) * (len(widths) - 1) > limit:
        candidates = [i for i, width in enumerate(widths) if width > least[i]]
        if not candidates:
            break
        widths[max(candidates, key=widths.__getitem__)] -= 1
    return widths


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        text = shorten(cell, width)
        pad = " " * (width - display_width(text))
        parts.append(text + pad if column.align == "left" else pad + text)
    return GAP.join(parts).rstrip()
