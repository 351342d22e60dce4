"""Where the saved time went: from the baseline's window to the optimized one's, a floating bar for each term between them.

    baseline         |========================================|
    d2h · d2h        |                     -------------------|
    h2d · h2d        |              -------|
    optimized        |==============|

Bars hang where the one above ended, so that the eye can check what the table proves: the terms sum to the difference.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...analyze.comparison.changes import Change
from ...analyze.comparison.matching import OWN
from ...analyze.comparison.waterfall import Layout, Term, Waterfall, by_stage, over_devices
from ...analyze.naming.kernels import short_names
from ...analyze.result import NONE, ORPHAN, OUTSIDE
from ...expectations.comparing.compare import Comparison
from ..figures import waterfall_figure
from . import cells, text
from .blocks import Cell, Chart, Fold, Para, Row, Section, Span, Table, section
from .markup import clip
from .sides import Side, caution, clipped

_WORDS = {OWN: "outside all stages", NONE: "no stage open", ORPHAN: "unknown stage", OUTSIDE: "stages of other work"}


def waterfall_section(
    sides: Sequence[Side], whole: Comparison | None, steps: Sequence[Comparison] = ()
) -> Section | None:
    """Of the comparison of the first with the last of `sides`, and of the `steps` between; null where nothing is compared."""
    if whole is None:
        return None
    fall = whole.waterfall
    terms = over_devices(fall.terms)
    return section(
        "waterfall",
        "Where the saved time went",
        Para(_intro(fall)),
        caution([sides[0], sides[-1]], "ledger"),
        _ladder([step.waterfall for step in steps], fall) if len(steps) > 1 else None,
        Chart("figure-waterfall", waterfall_figure(fall), "the difference, term by term"),
        Fold("Stage by stage", [_table(fall, by_stage(fall.terms), "difference of each stage", False)]),
        Fold("Every term in nanoseconds", [_table(fall, terms, "every term of the difference", True)]),
        Fold("Kernels of both", [_changes(fall, whole.kernels, "kernels of both")]) if whole.kernels else None,
        Fold("Copies of both", [_changes(fall, whole.copies, "copies of both")]) if whole.copies else None,
    )


def _intro(found: Waterfall) -> list[str | Span]:
    plan = found.layout
    notes = ""
    if plan.per == "iteration":
        why = (
            "The sides have different numbers of iterations"
            if plan.work == "scaled"
            else "Steady iterations are compared"
        )
        notes += f"{why}, so every difference here is per iteration. "
    elif plan.work == "unknown":
        notes += "No whole iterations are marked on all sides, so whole windows are compared. "
    if len(found.windows) > 1 or not plan.by_device:
        notes += "Times are summed over devices: device time, not elapsed time. "
    return [
        f"From {found.base} to {found.opt} the traced window became {_time(plan, abs(found.difference))} "
        f"{'longer' if found.difference > 0 else 'shorter'}: the ledgers' cells, stage by stage, one subtracted from the other. ",
        Span(f"The terms sum to {exact_sum(plan, found.difference)} ns exactly. ", "exact"),
        notes,
    ]


def _ladder(steps: Sequence[Waterfall], whole: Waterfall) -> Table:
    """Each step's own gain; they sum to the total."""
    rows = []
    for found in [*steps, whole]:
        ratio = Cell("" if found.ratio is None else f"{text.significant(found.ratio)} ×", found.ratio)
        name = "in all" if found is whole else f"{found.base} → {found.opt}"
        gain = Cell(_time(whole.layout, found.difference), found.difference)
        rows.append(Row([name, gain, share_cell(whole, found.difference), ratio]))
    return Table("gain of each step", ["step", "difference", "share", "traced ratio"], rows, numbers=(1, 2, 3))


def _table(found: Waterfall, terms: Sequence[Term], caption: str, causes: bool) -> Table:
    plan = found.layout
    scaled = plan.per == "iteration"
    unit = "ns per iteration" if scaled else "ns"
    heads = ["stage", *(["category", "cause"] if causes else []), f"{found.base} {unit}", f"{found.opt} {unit}"]
    heads += [f"difference ns{' per iteration' if scaled else ''}", "share", "only in"]
    body = []
    for t in terms:
        only = {"added": found.opt, "removed": found.base}.get(t.status, "")
        what = [t.category, t.cause or ""] if causes else []
        figures = _figures(found, t.base_ns, t.opt_ns, t.difference)
        body.append(Row([stage_name(t.stage), *what, *figures, only]))
    sums = _figures(found, found.base_ns, found.opt_ns, found.difference)
    total = Row(["all", *(["", ""] if causes else []), *sums, ""])
    first = 3 if causes else 1
    return Table(caption, heads, body, numbers=range(first, first + 4), total=total)


def _figures(found: Waterfall, base_ns: int, opt_ns: int, difference: int) -> list[Cell]:
    """Times per iteration are rounded to whole ns."""
    exact = Cell(exact_difference(found.layout, difference), difference)
    sides = (found.layout.ns(ns * weight) for ns, weight in zip((base_ns, opt_ns), found.weights, strict=True))
    return [*(Cell(f"{ns:,.0f}", ns) for ns in sides), exact, share_cell(found, difference)]


def _changes(fall: Waterfall, changes: Sequence[Change], caption: str) -> Table:
    """What kernels, or copies, became of one another: matched by name, with the time of each on both sides."""
    short = short_names(change.name for change in changes)
    rows = [
        Row(
            [
                Span(clip(short.get(c.name, c.name), 100), title=clip(c.name, 600)),
                *(
                    c.status,
                    cells.count(c.base_ops),
                    cells.count(c.opt_ops),
                    cells.time(c.base_ns),
                    cells.time(c.opt_ns),
                ),
                Cell(_time(fall.layout, c.difference), c.difference),
            ]
        )
        for c in changes
    ]
    heads = ["name", "status", f"{fall.base} runs", f"{fall.opt} runs", fall.base, fall.opt, "difference"]
    return Table(caption, heads, rows, numbers=range(2, 7))


def stage_name(key: str) -> str:
    """A stage as comparisons match it, as a heading."""
    return _WORDS.get(key) or clipped(key, 80) or "(unnamed)"


def share_cell(found: Waterfall, difference: int) -> Cell:
    """Of the whole difference; absent where that has no meaning."""
    share = found.share(difference)
    return Cell(text.ABSENT if share is None else f"{100 * share:.1f} %".replace("-", "−"), share)


def _time(plan: Layout, value: int) -> str:
    return text.duration(plan.ns(value)).replace("-", "−")


def exact_difference(plan: Layout, value: int) -> str:
    """``−1,234``: whole nanoseconds, as they are; per iteration to a tenth of one where they are not whole."""
    whole, rest = divmod(value, plan.denominator)
    shown = f"{whole:+,}" if not rest else f"{plan.ns(value):+,.1f}"
    return shown.replace("-", "−") if value else "0"


def exact_sum(plan: Layout, value: int) -> str:
    """The whole difference without rounding: a fraction where that is none of whole nanoseconds."""
    shown = f"{value:+,} / {plan.denominator}" if value % plan.denominator else exact_difference(plan, value)
    return shown.replace("-", "−")
