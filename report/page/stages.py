"""The stage table on the page: the rows, columns and figures of the terminal's, with what each column counts below its title."""

from __future__ import annotations

from collections.abc import Sequence

from ..replayed import replay_sentences
from ..stage_rows import StageColumn, StageRow, StageTable, legend, stage_table
from . import text
from .blocks import MOST_ROWS, Block, Cell, Head, Para, Row, Section, Span, Sub, Table, section
from .links import timeline_link
from .sides import Side, caution, clipped


def stages_section(sides: Sequence[Side]) -> Section | None:
    """A table for each side that has stages; null where none has."""
    told = [(side, stage_table(side.analysis, MOST_ROWS - 1)) for side in sides if side.analysis.stages.height]
    if not told:
        return None
    every = {column.title: column for _, found in told for column in found.columns}
    explained = legend(list(every.values()), text.ABSENT, host_only=all(side.analysis.host_only for side, _ in told))
    words = "Times in ms. Inclusive columns count nested stages, own columns the stage alone. "
    folded_names = any(side.analysis.stage_names.height for side, _ in told)
    names = Para("Names that differ in numbers alone are one stage here.", "note")
    return section(
        "stages",
        "Stage by stage",
        Para("Click a stage to see it in the timeline; every table on this page then lists only that stage."),
        Para(f"{words}{explained[0].upper()}{explained[1:]}.", "note"),
        names if folded_names else None,
        caution(sides, "projection"),
        [block for side, found in told for block in _of(side, found, len(told) > 1)],
    )


def _of(side: Side, found: StageTable, named: bool) -> list[Block]:
    heads: list[Head | str] = ["stage", *(Head(column.title, column.counts) for column in found.columns)]
    rows = [_row(side, row, found.columns) for row in found.rows]
    if found.small:
        blank = [text.ABSENT] * (len(found.columns) - 1)
        rows.append(Row([found.small_name, *blank, found.small_share or text.ABSENT]))
    more = f"{found.not_shown}: see `aisp-trace analyze --json`"
    return [
        *([Sub(side.name)] if named else []),
        Table(f"stages of {side.name}", heads, rows, numbers=range(1, len(heads))),
        *([Para(more, "note")] if found.shorter else []),
        *(Para(f"{said[0].upper()}{said[1:]}.", "note") for said in replay_sentences(side.analysis)),
    ]


def _row(side: Side, row: StageRow, columns: Sequence[StageColumn]) -> Row:
    """Nested stages are indented below their parents."""
    cells = [_cell(row, column) for column in columns]
    name = Span(clipped(row.name), href=timeline_link(side, stage=row.path))
    return Row([name, *cells], stage=row.path, depth=row.depth)


def _cell(row: StageRow, column: StageColumn) -> Cell:
    """The column's own text; its number is what the text says, and a share of the window has a bar."""
    words = column.text(row) or text.ABSENT
    if column.title == "share":
        part = row.ledger_ns / row.window_ns if row.window_ns else 0.0
        return Cell(words, part, min(part, 1.0))
    try:
        return Cell(words, float(words.replace(",", "")))
    except ValueError:
        return Cell(words)
