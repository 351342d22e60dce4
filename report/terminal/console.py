"""How commands print: escaped text, tables that fit the terminal, colour where it is wanted, and JSON.

Everything a trace or a manifest says is foreign text, so all that is printed goes through `print_line` or `print_table`: a
kernel's name cannot move the cursor, recolour the terminal, break a line, or begin one that a CI runner takes for a command.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TextIO

from ...analyze.naming.distinct import fitted
from ...analyze.words import NOTHING, shorten
from ...traces.content import one_line, printed
from ..documents.text import json_text
from .look import LOOK, coloured, console_for

if TYPE_CHECKING:  # imported when a table is printed
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement

    from ...traces.output import Output

escape: Final = one_line
"""Foreign text on one line, with nothing in it that a terminal obeys."""

GAP: Final = "  "
"""Between two columns of a table."""

_TIE: Final = "\x1f"
"""Stands for a space at which no line is broken; `escape` leaves none of its kind in a text."""

_UNIT: Final = re.compile(r"(?<=\d) (?=(?:%|[num]?s|min|[kMGT]?B(?:/s)?)(?![\w%]))")
"""The space between a figure and its unit."""

LEAST: Final = 8
"""A column that gives way is never narrower than this, and lines never narrower than 40."""


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. When the table is too wide, cells of `shrink` columns lose their middle and those of `wrap` columns
    take more lines; no other column gives way, and none becomes narrower than `LEAST`.
    """

    title: str
    align: Literal["left", "right"] = "right"
    shrink: bool = False
    wrap: bool = False


@dataclass(frozen=True, slots=True)
class Painted:
    """A cell of a table, or a part of a line, in a style of rich's where colour is wanted."""

    text: str
    style: str


class Writer(Protocol):
    """What takes the place of stdout, and is given what is printed before it is laid out in columns of characters."""

    def line(self, text: str, bold: bool) -> None:
        """One line, or an empty one between paragraphs."""

    def sentence(self, text: str) -> None:
        """A paragraph, to be wrapped wherever it is shown."""

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Rows under columns; a line break within a cell is ours."""


_WRITER: Final[ContextVar[Writer | None]] = ContextVar("_WRITER", default=None)


@contextmanager
def writing_to(writer: Writer) -> Iterator[None]:
    """Inside, what would be printed on stdout goes to `writer`."""
    token = _WRITER.set(writer)
    try:
        yield
    finally:
        _WRITER.reset(token)


def laid_out() -> bool:
    """Whether what is printed is laid out in columns of characters, and not by a `Writer`."""
    return _WRITER.get() is None


def say(line: str = "") -> None:
    """Print one line on stdout: a line break in it came from outside and is escaped like other control characters."""
    print_line(line)


def heading(line: str) -> None:
    """Print one line on stdout, bold where colour is wanted."""
    paint([Painted(line, "bold")])


def paint(parts: Sequence[str | Painted], stream: TextIO | None = None) -> None:
    """Print one line, by default on stdout, whose `Painted` parts have their style where colour is wanted."""
    texts = [part.text if isinstance(part, Painted) else part for part in parts]
    if stream is None and (writer := _WRITER.get()) is not None:
        writer.line(escape("".join(texts)), any(isinstance(part, Painted) and part.style == "bold" for part in parts))
        return
    target = sys.stdout if stream is None else stream
    if not coloured(target):
        print_line("".join(texts), stream)
        return
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ignore", end="\n")
    for part, text in zip(parts, texts, strict=True):
        line.append(escape(text), part.style if isinstance(part, Painted) else None)
    console_for(target, max(line.cell_len, 1)).print(line, soft_wrap=True)


def say_lines(text: str) -> None:
    """Print the lines of `text`, such as a `table`, whose foreign parts are escaped already: its line breaks are ours."""
    for line in text.split("\n"):
        print_line(line)


def print_line(line: str, stream: TextIO | None = None) -> None:
    """The one place that prints text, by default on stdout."""
    if stream is None and (writer := _WRITER.get()) is not None:
        writer.line(escape(line), False)
        return
    print(printed(escape(line)), file=stream)


def say_wrapped(text: str, first: str = "", rest: str = "  ", *, style: str = "", width: int | None = None) -> None:
    """Print one sentence in lines of the terminal's `width`, the first led by `first` (in `style` where colour is wanted), the
    others by `rest`.

    Foreign names in it are escaped before their length is counted; a word that is longer than a line stays whole.
    """
    if (writer := _WRITER.get()) is not None:
        writer.sentence(escape(f"{first}{text}"))
        return
    lines = textwrap.wrap(
        _UNIT.sub(_TIE, escape(text)),
        terminal_width() if width is None else width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
    lines = [line.replace(_TIE, " ") for line in lines]
    if style and lines[0].startswith(first):
        paint([Painted(first, style), lines[0][len(first) :]])
        lines = lines[1:]
    for line in lines:
        print_line(line)


LONGEST: Final = 1_600
"""Characters of a message, twenty lines of a terminal. The longest of the program's own have 600."""


def warn(sentence: str) -> None:
    """Print one line on stderr, as every message of the program: ``aisp-trace: <sentence>``.

    What somebody else's text makes too long to be read is cut in its middle: both ends are the program's own words.
    """
    if len(sentence) > LONGEST:
        sentence = f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
    paint([Painted("aisp-trace:", "bold red"), f" {sentence}"], sys.stderr)


def ask(question: str) -> None:
    """Print a question on stderr; who asks it reads the answer."""
    paint([Painted("aisp-trace:", "bold"), f" {question}"], sys.stderr)


def remark(sentence: str) -> None:
    """Print one line on stderr that is not an error, unless --quiet was given."""
    if not LOOK.quiet:
        paint([Painted("aisp-trace:", "dim"), f" {sentence}"], sys.stderr)


def progress(sentence: str) -> None:
    """`remark` of a step that takes long."""
    remark(f"{sentence} ...")


def print_json(document: Any) -> None:
    """Print `document` as ASCII JSON, keys in their own order. NaN and infinity raise `ValueError`: JSON has none.

    What a CI runner would obey (`printed`) is written as an escape of JSON's, which stands for the same text.
    """
    print(re.sub(r"#(?=#\[|#vso\[)", r"\\u0023", json_text(document)))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print `table` on stdout; where colour is wanted its titles are bold, and `Painted` cells have their style."""
    if (writer := _WRITER.get()) is not None:
        writer.table(columns, [[_text(value) for value in row] for row in rows])
        return
    for line in _rendered(columns, rows, None, coloured(sys.stdout)).split("\n"):
        print(printed(line))


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], width: int | None = None, *, spaced: bool = False
) -> str:
    """`rows` under `columns` as text without a trailing line break; just the titles where there are no rows.

    `width` is the widest line wanted (default: the terminal's); where columns cannot give way that far the lines stay longer:
    figures are never cut. Cells are shown with `str`, null as ``-``, a tuple as a line each. `spaced`: with an empty line
    after each row. Raises `ValueError` for a row of another length than `columns`.
    """
    return _rendered(columns, rows, width, False, spaced=spaced)


def _rendered(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    width: int | None,
    colour: bool,
    *,
    spaced: bool = False,
) -> str:
    """The table's lines, with or without the escape codes of colours."""
    from rich.cells import cell_len
    from rich.table import Table

    cells, styles = [[escape(column.title) for column in columns]], []
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells, the table {len(columns)} columns")
        cells.append([_text(value) for value in row])
        styles.append([value.style if isinstance(value, Painted) else "" for value in row])
    widths = [max(map(cell_len, "\n".join(column).split("\n"))) for column in zip(*cells, strict=True)]
    gives = [column.shrink or column.wrap for column in columns]
    least = [
        max(_Cell(row[i], c.wrap).least for row in cells) if give else widths[i]
        for i, (c, give) in enumerate(zip(columns, gives, strict=True))
    ]
    made = Table(box=None, padding=(0, len(GAP), int(spaced), 0), pad_edge=False, header_style="bold")
    together = [_Short(texts) for texts in zip(*cells, strict=True)]
    for column, title, length, give in zip(columns, cells[0], widths, gives, strict=True):
        made.add_column(_Cell(title), justify=column.align, no_wrap=not give, width=None if give else length)
    for row, painted in zip(cells[1:], styles, strict=True):
        made.add_row(
            *[
                _Cell(text, c.wrap, short, style)
                for c, text, short, style in zip(columns, row, together, painted, strict=True)
            ]
        )
    needed = sum(least) + len(GAP) * (len(columns) - 1)
    out = io.StringIO()
    wide = max(terminal_width() if width is None else width, needed)
    console_for(out, wide, colour=colour).print(made, end="")
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip("\n")


def _text(value: object) -> str:
    if isinstance(value, Painted):
        return escape(value.text)
    if isinstance(value, tuple):
        return "\n".join(map(escape, value))
    return NOTHING if value is None else escape(str(value))


class _Short:
    """The texts of a column in the width that is left for it, different ones differently."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.known: dict[int, dict[str, str]] = {}

    def __call__(self, text: str, width: int) -> str:
        if width not in self.known:
            self.known[width] = fitted(self.texts, width)
        return self.known[width].get(text, text)


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of a rich table: literal text that takes more lines (`wrap`) or loses its middle where the column is narrower.

    `short` shortens it beside the other cells of its column.
    """

    text: str
    wrap: bool = False
    short: Callable[[str, int], str] = shorten
    style: str = ""

    @property
    def least(self) -> int:
        """The narrowest it may become: its longest word, or `LEAST`."""
        from rich.cells import cell_len

        return max(map(cell_len, self.text.split()), default=0) if self.wrap else min(cell_len(self.text), LEAST)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.cells import cell_len
        from rich.measure import Measurement

        return Measurement(self.least, max(map(cell_len, self.text.split("\n"))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        if self.wrap:
            yield Text(self.text, self.style, justify=options.justify)
            return
        short = self.short(self.text, options.max_width)
        yield Text(short, self.style, justify=options.justify, no_wrap=True, overflow="crop")


def terminal_width() -> int:
    """Columns to fill: ``COLUMNS`` where it is set, else the terminal's, else 80 (a file, a pipe, CI); at least 40."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


@contextmanager
def aside(*outputs: Output) -> Iterator[None]:
    """Inside, what is printed goes to stderr where an output goes to standard output: the two must not mix."""
    if any(output.to_stdout for output in outputs):
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield
