"""How commands print: escaped text, tables that fit the terminal, and JSON.

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from ...analyze.naming.distinct import fitted
from ...analyze.words import NOTHING, shorten
from ...traces.content import one_line, printed
from ..documents.text import json_text

if TYPE_CHECKING:  # imported when a table is printed
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement

    from ...traces.output import Output

escape: Final = one_line
"""Foreign text on one line, with nothing in it that a terminal obeys."""

GAP: Final = "  "
"""Between two columns of a table."""

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


def progress(sentence: str) -> None:
    """`warn` of a step that takes long."""
    warn(f"{sentence} ...")


def print_json(document: Any) -> None:
    """Print `document` as ASCII JSON, keys in their own order. NaN and infinity raise `ValueError`: JSON has none.

    What a CI runner would obey (`printed`) is written as an escape of JSON's, which stands for the same text.
    """
    print(re.sub(r"#(?=#\[|#vso\[)", r"\\u0023", json_text(document)))


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print `table` on stdout, its titles bold on a terminal that shows colours."""
    from rich.console import Console

    for line in _rendered(columns, rows, None, Console(file=sys.stdout)).split("\n"):
        print(printed(line))


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], width: int | None = None, *, spaced: bool = False
) -> str:
    """`rows` under `columns` as text without a trailing line break; just the titles where there are no rows.

    `width` is the widest line wanted (default: the terminal's); where columns cannot give way that far the lines stay longer:
    figures are never cut. Cells are shown with `str`, null as ``-``, a tuple as a line each. `spaced`: with an empty line
    after each row. Raises `ValueError` for a row of another length than `columns`.
    """
    return _rendered(columns, rows, width, None, spaced=spaced)


def _rendered(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    width: int | None,
    like: Console | None,
    *,
    spaced: bool = False,
) -> str:
    """The table's lines, with the escape codes that the terminal of `like` understands, or none."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    cells = [[escape(column.title) for column in columns]]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells, the table {len(columns)} columns")
        cells.append([_text(value) for value in row])
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
    for row in cells[1:]:
        made.add_row(*[_Cell(text, c.wrap, short) for c, text, short in zip(columns, row, together, strict=True)])
    needed = sum(least) + len(GAP) * (len(columns) - 1)
    out = io.StringIO()
    coloured = like is not None and like.color_system is not None
    Console(
        file=out,
        width=max(terminal_width() if width is None else width, needed),
        force_terminal=coloured,
        color_system="auto" if coloured else None,
        legacy_windows=False,
    ).print(made, end="")
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip("\n")


def _text(value: object) -> str:
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
            yield Text(self.text, justify=options.justify)
            return
        yield Text(self.short(self.text, options.max_width), justify=options.justify, no_wrap=True, overflow="crop")


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


@contextmanager
def meter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows on a terminal how many of how many `what` are done, as what it yields is told; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stderr = Console(file=sys.stderr)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as shown:
        task = shown.add_task(escape(what), total=None)
        yield lambda done, expected: shown.update(task, completed=done, total=max(done, expected))
