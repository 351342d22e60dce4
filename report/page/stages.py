"""The stage table on the page: the rows, columns and figures of the terminal's, with what each column counts below its title."""

from __future__ import annotations

from collections.abc import Sequence

from ..stage_rows import StageColumn, StageTable, legend, stage_table
from . import text
from .markup import Html, element, join
from .sides import Side, caution, clipped
from .tables import MOST_ROWS, section, table


def stages_section(sides: Sequence[Side]) -> Html | None:
    """A table for each side that has stages; null where none has."""
    told = [(side, stage_table(side.analysis, MOST_ROWS - 1)) for side in sides if side.analysis.stages.height]
    if not told:
        return None
    every = {column.title: column for _, found in told for column in found.columns}
    explained = legend(list(every.values()), text.ABSENT)
    words = "Times in ms. Inclusive columns count nested stages, own columns the stage alone. "
    intro = element("p", f"{words}{explained[0].upper()}{explained[1:]}.", class_="note")
    folded_names = any(side.analysis.stage_names.height for side, _ in told)
    names = element("p", "Names that differ in numbers alone are one stage here.", class_="note")
    return section(
        "stages",
        "Stage by stage",
        intro,
        names if folded_names else None,
        caution(sides, "projection"),
        [_of(side, found, len(told) > 1) for side, found in told],
    )


def _of(side: Side, found: StageTable, named: bool) -> Html:
    heads: list[str] = ["stage", *(_head(column) for column in found.columns)]
    rows = [
        [_name(row.name, row.depth), *(column.text(row) or text.ABSENT for column in found.columns)]
        for row in found.rows
    ]
    if found.small:
        blank = [text.ABSENT] * (len(found.columns) - 1)
        rows.append([Html(found.small_name), *blank, found.small_share or text.ABSENT])
    more = f"and {found.shorter:,} shorter ones: see `aisp-trace analyze --json`"
    return element(
        "div",
        element("h3", side.name) if named else None,
        table(f"stages of {side.name}", heads, rows, numbers=range(1, len(heads))),
        element("p", more, class_="note") if found.shorter else None,
    )


def _head(column: StageColumn) -> Html:
    return join([column.title, element("br"), element("span", column.counts, class_="note")])


def _name(name: str, depth: int) -> Html:
    """Nested stages are indented below their parents."""
    return element("span", clipped(name), style=f"padding-left: {1.2 * depth:.1f}em" if depth else None)
