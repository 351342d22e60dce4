"""Where the saved time went: from the baseline's window to the optimized one's, a floating bar for each term between them.

    baseline         |========================================|
    d2h · d2h        |                     -------------------|
    h2d · h2d        |              -------|
    optimized        |==============|

Bars hang where the one above ended, so that the eye can check what the table proves: the terms sum to the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...analyze.comparison.matching import OWN
from ...analyze.comparison.sides import account
from ...analyze.comparison.waterfall import Layout, Term, Waterfall, by_stage, layout, over_devices, waterfall
from ...analyze.result import IDLE, NONE, ORPHAN, OUTSIDE
from . import text
from .bars import HEIGHT
from .markup import Html, element
from .palette import colour
from .sides import Side, caution, clipped
from .tables import folded, section, table

SHOWN = 12
"""Terms with a bar of their own; the others share one."""

_WORDS = {OWN: "outside of all stages", NONE: "no stage open", ORPHAN: "unknown stage", OUTSIDE: "stages of other work"}


def waterfall_section(sides: Sequence[Side]) -> Html | None:
    """The section; null for a single side, and where a side has no device time to compare."""
    if len(sides) < 2 or any(side.analysis.windows.is_empty() for side in sides):
        return None
    plan = layout([account(side.analysis, side.name, exact=not side.analysis.choices.fold) for side in sides])
    steps = [waterfall(plan, i, i + 1) for i in range(len(sides) - 1)]
    whole = waterfall(plan, 0, len(sides) - 1)
    terms = over_devices(whole.terms)
    return section(
        "waterfall",
        "Where the saved time went",
        _intro(whole),
        caution([sides[0], sides[-1]], "ledger"),
        _ladder(steps, whole) if len(steps) > 1 else None,
        _chart(whole, terms),
        folded("Stage by stage", _table(whole, by_stage(whole.terms), "difference of each stage", False)),
        folded("Every term in nanoseconds", _table(whole, terms, "every term of the difference", True)),
    )


def _intro(found: Waterfall) -> Html:
    plan = found.layout
    notes = []
    if plan.per == "iteration":
        notes.append("The sides have other numbers of iterations, so everything here is per iteration. ")
    elif plan.work == "unknown":
        notes.append("No whole iterations are marked on all sides, so whole windows are compared. ")
    if len(found.windows) > 1 or not plan.by_device:
        notes.append("The times of several devices are added up: device time, not elapsed time. ")
    slower = found.difference > 0
    return element(
        "p",
        f"From {found.base} to {found.opt} the traced window became {_time(plan, abs(found.difference))} "
        f"{'longer' if slower else 'shorter'}: the ledgers' cells, stage by stage, one subtracted from the other. ",
        element("span", f"The terms sum to {exact_difference(plan, found.difference)} ns exactly. ", class_="exact"),
        *notes,
    )


@dataclass(frozen=True, slots=True)
class _Bar:
    """From `start` to `end` in the layout's units, in either order."""

    label: str
    look: str
    start: int
    end: int
    value: str


def _chart(found: Waterfall, terms: Sequence[Term]) -> Html:
    plan, (weight, against) = found.layout, found.weights
    base, opt = found.base_ns * weight, found.opt_ns * against
    bars = [_Bar(found.base, ".window", 0, base, _time(plan, base))]
    at = base
    moved = [t for t in terms if t.difference]
    kept = len(moved) if len(moved) <= SHOWN + 1 else SHOWN
    for term in moved[:kept]:
        look = term.cause if term.category == IDLE and term.cause else term.category
        bars.append(_Bar(_label(term), look, at, at + term.difference, _gain(found, term.difference)))
        at += term.difference
    rest = sum(t.difference for t in moved[kept:])
    if moved[kept:]:
        words = text.count(len(moved) - kept, "smaller term")
        bars.append(_Bar(words, IDLE, at, at + rest, _gain(found, rest)))
    bars.append(_Bar(found.opt, ".window", 0, opt, _time(plan, opt)))
    low = min(0, *(min(b.start, b.end) for b in bars))
    span = max(max(b.start, b.end) for b in bars) - low
    return element(
        "div",
        [_row(b, low, span) for b in bars],
        class_="chart",
        role="group",
        aria_label="the difference, term by term",
    )


def _row(bar: _Bar, low: int, span: int) -> Html:
    left, right = sorted((bar.start - low, bar.end - low))
    x, width = (100 * left / span, 100 * (right - left) / span) if span else (0.0, 0.0)
    look = IDLE if bar.look == ".window" else bar.look
    words = f"{bar.label}: {bar.value}"
    rect = Html(element("rect", x=f"{x:.3f}%", y=0, width=f"{width:.3f}%", height=HEIGHT, fill=colour(look)))
    drawing = element("g", element("title", words), rect)
    return element(
        "div",
        element("span", bar.label, class_="bar-label"),
        element("svg", drawing, class_="bar", width="100%", height=HEIGHT, role="img", aria_label=words),
        element("span", bar.value, class_="bar-value"),
        class_="bar-row",
    )


def _ladder(steps: Sequence[Waterfall], whole: Waterfall) -> Html:
    """Each step's own gain; they sum to the total."""
    plan = whole.layout
    rows = []
    for found in [*steps, whole]:
        ratio = "" if found.ratio is None else f"{text.significant(found.ratio)} ×"
        name = "in all" if found is whole else f"{found.base} → {found.opt}"
        rows.append([name, _time(plan, found.difference), _share(whole, found.difference), ratio])
    return table("gain of each step", ["step", "difference", "share", "traced ratio"], rows, numbers=(1, 2, 3))


def _table(found: Waterfall, terms: Sequence[Term], caption: str, causes: bool) -> Html:
    plan = found.layout
    scaled = plan.per == "iteration"
    unit = "ns in all" if scaled else "ns"
    heads = ["stage", *(["category", "cause"] if causes else []), f"{found.base} {unit}", f"{found.opt} {unit}"]
    heads += [f"difference ns{' per iteration' if scaled else ''}", "share", "only in"]
    body = []
    for t in terms:
        only = {"added": found.opt, "removed": found.base}.get(t.status, "")
        what = [t.category, t.cause or ""] if causes else []
        figures = [f"{t.base_ns:,}", f"{t.opt_ns:,}", exact_difference(plan, t.difference), _share(found, t.difference)]
        body.append([stage_name(t.stage), *what, *figures, only])
    sums = [
        f"{found.base_ns:,}",
        f"{found.opt_ns:,}",
        exact_difference(plan, found.difference),
        _share(found, found.difference),
    ]
    total = ["all", *(["", ""] if causes else []), *sums, ""]
    first = 3 if causes else 1
    return table(caption, heads, [total, *body], numbers=range(first, first + 4))


def _label(term: Term) -> str:
    what = f"idle, {term.cause}" if term.category == IDLE else term.category
    return f"{stage_name(term.stage)} · {what}"


def stage_name(key: str) -> str:
    """A stage as comparisons match it, as a heading."""
    return _WORDS.get(key) or clipped(key, 80) or "(unnamed)"


def _gain(found: Waterfall, difference: int) -> str:
    return f"{_time(found.layout, difference)} · {_share(found, difference)}"


def _share(found: Waterfall, difference: int) -> str:
    """Of the whole difference; a term that goes the other way has a negative share."""
    if not found.difference:
        return text.ABSENT
    share = round(100 * difference / found.difference, 1)
    return f"{share or 0:.1f} %".replace("-", "−")  # `or`: no negative zero


def _time(plan: Layout, value: int) -> str:
    words = text.duration(plan.ns(value))
    return words.replace("-", "−")


def exact_difference(plan: Layout, value: int) -> str:
    """Whole nanoseconds; a fraction of them, as it is, where iterations of other numbers are compared."""
    if not value:
        return "0"
    whole = f"{value:+,}" if plan.denominator == 1 else f"{value:+,} / {plan.denominator}"
    return whole.replace("-", "−")
