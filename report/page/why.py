"""Why one side is faster than another: one sentence, and a table of stages by mechanism, to the nanosecond."""

from __future__ import annotations

from collections.abc import Sequence

from ...analyze.comparison.amounts import amounts
from ...analyze.comparison.mechanisms import Split, split
from ...analyze.comparison.reasons import remarks, sentence
from ...analyze.comparison.sides import account
from ...analyze.comparison.waterfall import Waterfall, layout, waterfall
from ...analyze.findings.beside import what_overlap_costs
from ...expectations.comparing.compare import Comparison
from ..why_rows import WhyRow, why_table
from . import text
from .markup import Html, element
from .sides import Side, caution
from .tables import folded, section, table
from .waterfall import exact_difference, stage_name


def why_section(sides: Sequence[Side], compared: Comparison | None = None) -> Html | None:
    """The section on the first and the last of `sides`, and a sentence on each step between; null for a single side, and where
    a side has no device time. Of two recordings that were `compared`, it is that comparison, with what it objects to and notes.
    """
    if len(sides) < 2 or any(side.analysis.windows.is_empty() for side in sides):
        return None
    whole, *steps = [(compared.waterfall, compared.why)] if compared else _explained(sides)
    fall, why = whole
    objections = compared.objections if compared else ()
    return section(
        "why",
        "Why it became slower"
        if fall.difference > 0
        else "Why it became faster"
        if fall.difference
        else "What differs",
        [element("p", element("strong", "Not comparable: "), f"{one}.", class_="caution") for one in objections],
        element("p", _sentence(*whole), class_="why"),
        [element("p", f"{one[0].upper()}{one[1:]}.", class_="caution") for one in remarks(fall)],
        element("ul", [element("li", _sentence(*step)) for step in steps]) if steps else None,
        [
            element("p", f"Overlap in {side.name}: {cost}.", class_="note")
            for side in sides
            for cost in what_overlap_costs(side.analysis)
        ],
        caution([sides[0], sides[-1]], "ledger"),
        _table(fall, why),
        folded("What to know beside it", element("ul", [element("li", f"{note}.") for note in compared.notes]))
        if compared and compared.notes
        else None,
    )


def _explained(sides: Sequence[Side]) -> list[tuple[Waterfall, Split]]:
    """First against last, and of three and more sides each against the one before it."""
    exact = [not side.analysis.choices.fold for side in sides]
    plan = layout([account(s.analysis, s.name, exact=e) for s, e in zip(sides, exact, strict=True)])
    did = [amounts(s.analysis, exact=e) for s, e in zip(sides, exact, strict=True)]
    last = len(sides) - 1
    pairs = [(0, last), *((i, i + 1) for i in range(last) if last > 1)]
    falls = [(waterfall(plan, i, j), i, j) for i, j in pairs]
    return [(fall, split(fall, did[i], did[j])) for fall, i, j in falls]


def _sentence(fall: Waterfall, why: Split) -> str:
    return f"{sentence(fall, why)}."


def _table(fall: Waterfall, why: Split) -> Html:
    found = why_table(fall, why)
    heads = ["stage", "difference", *found.titles, "only in"]
    rows = [_row(fall, row) for row in (found.total, *found.rows)]
    rows[0][0] = "all"
    unit = "ns per iteration" if fall.layout.per == "iteration" else "ns"
    note = (
        f"In {unit}, opt minus base: each row sums to its stage's difference, each column to what it is of the whole. Work is "
        "charged at the rate it had in the whole window, so what one stage does less another may do more."
    )
    caption = "difference of each stage by mechanism"
    return element(
        "div", element("p", note, class_="note"), table(caption, heads, rows, numbers=range(1, len(heads) - 1))
    )


def _row(fall: Waterfall, row: WhyRow) -> list[str]:
    only = {"added": fall.opt, "removed": fall.base}.get(row.status, "")
    figures = (exact_difference(fall.layout, ns) for ns in (row.difference, *row.cells))
    return [stage_name(row.stage), *figures, only or text.ABSENT]
