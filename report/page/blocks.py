"""What the page is made of before it is markup: sections of paragraphs, tables, charts and lists, as plain values.

A section is made by a pure function from results to these values; ``templates/blocks.html`` turns them into HTML, with every text
escaped. So a test of a section reads values or words, and no module but `templates` writes a tag.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

MOST_ROWS: Final = 400
"""Rows of a table on the page; `aisp-trace analyze --json` holds all of them."""

SEARCHED: Final = 12
"""From more rows than this on, a table can be searched."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words within a line. `look` is a class of the style sheet (``strong`` is bold); `href` makes them a link."""

    text: str
    look: str = ""
    href: str | None = None
    title: str = ""


Words = str | Span
"""A piece of text."""

Line = Words | Sequence[Words]
"""One piece, or several in a row."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell. `value` is what its column is sorted by (null: its text), `share` a bar behind the figure, from 0 to 1, in
    the colour `fill` of the palette; `below` is a second, smaller line."""

    text: Line
    value: float | None = None
    share: float | None = None
    fill: str = ""
    below: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row. `under` is written below it over the whole width. `stage` is the recorded path that filters find it by,
    `depth` indents its first cell, `look` is a class of the style sheet."""

    cells: Sequence[Cell | Words]
    under: Line | None = None
    stage: str | None = None
    depth: int = 0
    look: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """A column's title, with what it counts below it."""

    text: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titles; the columns `numbers` are right-aligned. `caption` names it for readers that do not see the heading.

    `total` is a row that stays first however the others are sorted. Rows beyond `MOST_ROWS` are counted, not shown.
    """

    kind: ClassVar[str] = "table"
    caption: str
    heads: Sequence[Head | str]
    rows: Sequence[Row]
    numbers: Sequence[int] = ()
    total: Row | None = None

    @property
    def shown(self) -> Sequence[Row]:
        return self.rows[:MOST_ROWS]

    @property
    def left_out(self) -> int:
        return max(len(self.rows) - MOST_ROWS, 0)

    @property
    def searched(self) -> bool:
        return len(self.rows) > SEARCHED


@dataclass(frozen=True, slots=True)
class Para:
    """A paragraph; `look` is a class of the style sheet."""

    kind: ClassVar[str] = "para"
    words: Line
    look: str = ""


@dataclass(frozen=True, slots=True)
class Sub:
    """A heading within a section."""

    kind: ClassVar[str] = "sub"
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list; numbered where `ordered`."""

    kind: ClassVar[str] = "items"
    lines: Sequence[Line]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Pairs of a word and what it is here; those without a value are left out."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command line to copy."""

    kind: ClassVar[str] = "command"
    title: str
    line: str


@dataclass(frozen=True, slots=True)
class Legend:
    """Colours of the palette by name, each with its meaning."""

    kind: ClassVar[str] = "legend"
    names: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure, drawn when it comes into view; `label` says in words what it shows."""

    kind: ClassVar[str] = "chart"
    anchor: str
    figure: Mapping[str, Any]
    label: str


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that open on demand."""

    kind: ClassVar[str] = "fold"
    summary: str
    blocks: Sequence[Block]


Block = Table | Para | Sub | Items | Facts | Command | Legend | Chart | Fold
"""What a section holds."""


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of the page; `anchor` is its id."""

    anchor: str
    title: str
    blocks: Sequence[Block]

    @property
    def charts(self) -> Iterator[Chart]:
        """Its charts, folded ones included."""
        return _charts(self.blocks)


def _charts(blocks: Sequence[Block]) -> Iterator[Chart]:
    for block in blocks:
        if isinstance(block, Chart):
            yield block
        elif isinstance(block, Fold):
            yield from _charts(block.blocks)


def section(anchor: str, title: str, *blocks: Block | Sequence[Block] | None) -> Section:
    """A section of the blocks that are there; lists of them are flattened."""
    flat: list[Block] = []
    for block in blocks:
        if isinstance(block, Sequence):
            flat += block
        elif block is not None:
            flat.append(block)
    return Section(anchor, title, flat)


def without(part: Section, titles: Collection[str]) -> Section:
    """`part` whose tables lack the columns of these titles: where there is one variant, or one device, none need name it."""
    return replace(part, blocks=[_without(block, titles) for block in part.blocks])


def _without(block: Block, titles: Collection[str]) -> Block:
    if isinstance(block, Fold):
        return replace(block, blocks=[_without(one, titles) for one in block.blocks])
    if not isinstance(block, Table):
        return block
    left = [i for i, head in enumerate(block.heads) if (head if isinstance(head, str) else head.text) not in titles]
    if len(left) == len(block.heads):
        return block

    def cut(row: Row) -> Row:
        return replace(row, cells=[row.cells[i] for i in left])

    numbers = [at for at, i in enumerate(left) if i in block.numbers]
    total = None if block.total is None else cut(block.total)
    heads = [block.heads[i] for i in left]
    return replace(block, heads=heads, rows=[cut(row) for row in block.rows], numbers=numbers, total=total)


def strong(text: str) -> Span:
    """Bold words."""
    return Span(text, "strong")
