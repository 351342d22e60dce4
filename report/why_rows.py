"""Why it became faster, stage by stage, for every face: a row a stage, a column a mechanism and a family of idle time.

Cells are exact, in the units of the comparison (1/denominator ns). Each row sums to the stage's difference, each column to what
the whole split says of its mechanism.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..analyze.comparison.mechanisms import FASTER, HIDDEN, LESS_WORK, REPLACED, Part, Split
from ..analyze.comparison.waterfall import Waterfall, by_stage
from ..analyze.result import IDLE

_TITLES = {LESS_WORK: "less work", FASTER: "faster", REPLACED: "replaced", HIDDEN: "hidden"}


@dataclass(frozen=True, slots=True)
class WhyRow:
    """A stage's `difference` and its `cells`, one a column. `status` is that of a waterfall's term; of sums it is ``matched``."""

    stage: str
    status: str
    difference: int
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WhyTable:
    """Titles and rows, the largest difference first, and their sum. The last `families` columns are of idle time, the family of
    which most changed first."""

    titles: tuple[str, ...]
    families: int
    rows: tuple[WhyRow, ...]
    total: WhyRow

    def with_families(self, most: int) -> WhyTable:
        """The table with at most `most` families of idle time; the others are one column behind them, so that rows still sum."""
        if most >= self.families:
            return self
        kept = len(self.titles) - self.families + most
        title = "other idle" if most else IDLE

        def shorter(row: WhyRow) -> WhyRow:
            cells = (*row.cells[:kept], sum(row.cells[kept:]))
            return WhyRow(row.stage, row.status, row.difference, cells)

        rows = tuple(map(shorter, self.rows))
        return WhyTable((*self.titles[:kept], title), most + 1, rows, shorter(self.total))


def why_table(fall: Waterfall, split: Split) -> WhyTable:
    """`split` by stage, with the mechanisms and families of which some stage has something. Kinds of work and devices are added
    up."""
    moved: Counter[tuple[str, str | None]] = Counter()
    for stage in split.by_stage:
        for key, difference in _cells(stage.parts).items():
            moved[key] += abs(difference)
    work = [(mechanism, None) for mechanism in _TITLES if moved[mechanism, None]]
    idle = sorted((key for key in moved if key[0] == IDLE), key=lambda key: (-moved[key], str(key[1])))
    keys: list[tuple[str, str | None]] = [*work, *idle]
    status = {term.stage: term.status for term in by_stage(fall.terms)}
    rows = [
        WhyRow(one.stage, status.get(one.stage, "matched"), one.difference, _row(keys, one.parts))
        for one in split.by_stage
    ]
    titles = [_TITLES.get(mechanism, f"{IDLE}: {of}") for mechanism, of in keys]
    total = WhyRow("total", "matched", split.difference, _row(keys, split.parts))
    return WhyTable(tuple(titles), len(idle), tuple(rows), total)


def together(rows: Sequence[WhyRow], name: str) -> WhyRow:
    """The sum of `rows`, at least one."""
    cells = tuple(map(sum, zip(*(row.cells for row in rows), strict=True)))
    return WhyRow(name, "matched", sum(row.difference for row in rows), cells)


def _row(keys: Iterable[tuple[str, str | None]], parts: Iterable[Part]) -> tuple[int, ...]:
    cells = _cells(parts)
    return tuple(cells[key] for key in keys)


def _cells(parts: Iterable[Part]) -> Counter[tuple[str, str | None]]:
    """By mechanism, idle time by family as well."""
    cells: Counter[tuple[str, str | None]] = Counter()
    for part in parts:
        cells[part.mechanism, part.of if part.mechanism == IDLE else None] += part.difference
    return cells
