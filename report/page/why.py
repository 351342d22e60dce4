"""Why: of two recordings, one sentence and the difference by mechanism; of one, what its window is made of. Exact integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...analyze.comparison.mechanisms import FAMILIES, FAMILY_OF, HIDDEN, LESS_WORK, REPLACED, Part
from ...analyze.comparison.reasons import FAMILY_WORDS, WITHIN, WORK_WORDS, may_be_chance, remarks, sentence
from ...analyze.findings.beside import what_overlap_costs
from ...analyze.findings.finding import capital
from ...analyze.result import IDLE
from ...expectations.comparing.compare import Comparison
from ...expectations.judging.predictions import Outcome
from ..palette import custom_property
from ..why_rows import WhyRow, why_table
from . import cells, text
from .blocks import Cell, Fold, Items, Para, Row, Section, Table, section, strong
from .sides import Side, caution
from .waterfall import exact_difference, share_cell, stage_name


def why_section(whole: Comparison | None, steps: Sequence[Comparison] = ()) -> Section | None:
    """On the comparison `whole`, and a sentence on each of the `steps`; null where nothing is compared."""
    if whole is None:
        return None
    fall = whole.waterfall
    title = "Why it became faster" if fall.difference < 0 else "Why it became slower"
    told = [f"{capital(one)}." for one in remarks(fall)]
    sides = (whole.base, whole.opt)
    return section(
        "why",
        title if fall.difference else "What differs",
        [Para((strong("Not comparable: "), f"{one}."), "caution") for one in whole.objections],
        Para(_sentence_of(whole), "why"),
        _how_many(whole),
        [Para(one, "caution") for one in told],
        _mechanisms(whole) if whole.why.parts else None,
        Items([_sentence_of(step) for step in steps]) if steps else None,
        [
            Para(f"Overlap in {name}: {cost}.", "note")
            for name, side in zip(whole.names_apart, sides, strict=True)
            for cost in what_overlap_costs(side.analysis)
        ],
        [Para(_came_of(one), "note") for one in whole.predictions],
        caution([Side(side.name, side.analysis) for side in sides], "ledger"),
        Fold("Why, stage by stage", [*_by_stage(whole)]),
    )


def _sentence_of(found: Comparison) -> str:
    """The sentence of the terminal and of ``--json``, with the page's arrow."""
    return f"{sentence(found.waterfall, found.why)}.".replace("->", "→")


def _how_many(found: Comparison) -> Para | None:
    """Of how many iterations the sentence is, where the headline is of one."""
    base, opt = (side.analysis.iterations.height for side in (found.base, found.opt))
    if found.waterfall.layout.per == "iteration" or not base == opt > 1:
        return None
    headline = "" if found.untraced is None else "; the times above are of one, untraced"
    return Para(f"Of all {base:,} traced iterations together{headline}.", "note")


def _came_of(one: Outcome) -> str:
    """What came of a prediction that was written down before the change."""
    predicted, measured = text.significant(one.predicted), text.significant(one.measured)
    return (
        f"Predicted from {one.run}: {', then '.join(one.changes)} makes {one.variant} {predicted} × as fast as {one.baseline} "
        f"({one.grade}). It is {measured} ×: {one.gained} ({100 * one.error:+.1f} %)."
    )


def _mechanisms(found: Comparison) -> Table:
    """The parts of the split over all devices, the largest first, those that may be chance last; they sum to the difference."""
    fall = found.waterfall
    moved: Counter[tuple[str, str | None]] = Counter()
    for part in found.why.parts:
        moved[part.mechanism, part.of] += part.difference
    most = max((abs(ns) for ns in moved.values()), default=0)
    parts = [(Part(None, *key, ns), may_be_chance(fall, key[0], [key[1] or ""], ns)) for key, ns in moved.items() if ns]
    parts.sort(key=lambda item: (item[1], -abs(item[0].difference), item[0].mechanism, item[0].of or ""))
    rows = [_part(found, part, most, chance) for part, chance in parts]
    unit = "ns per iteration" if fall.layout.per == "iteration" else "ns"
    heads = ["mechanism", "time", unit, f"of {text.duration(fall.layout.ns(abs(fall.difference)))}"]
    total = Row(["in all", *_amounts(found, fall.difference, None)])
    caption = f"from {fall.base} to {fall.opt}, by mechanism"
    return Table(caption, heads, rows, numbers=(1, 2, 3), total=total)


def _part(found: Comparison, part: Part, most: int, chance: bool) -> Row:
    look = "idle" if part.mechanism == HIDDEN else part.of or IDLE
    name = custom_property(FAMILIES[part.of][0] if part.mechanism == IDLE and part.of else look)
    return Row(
        [
            f"{_said(part)} ({WITHIN})" if chance else _said(part),
            *_amounts(found, part.difference, (abs(part.difference) / most, name)),
        ]
    )


def _said(part: Part) -> str:
    """``copies h2d faster``, ``less idle: host code``: what happened, by the sign of its difference."""
    less = part.difference < 0
    if part.mechanism == IDLE:
        return f"{'less' if less else 'more'} idle: {FAMILY_WORDS[part.of or 'unknown']}"
    if part.mechanism == HIDDEN:
        return "overlap hides more" if less else "overlap hides less"
    work = WORK_WORDS.get(part.of or "", f"{part.of} copies")
    if part.mechanism == LESS_WORK:
        return f"{'less' if less else 'more'} work in {work}"
    if part.mechanism == REPLACED:
        return f"{work} replaced by others"
    return f"{work} run {'faster' if less else 'slower'}"


def _amounts(found: Comparison, difference: int, bar: tuple[float, str] | None) -> list[Cell]:
    fall = found.waterfall
    time = f"{'+' if difference > 0 else ''}{text.duration(fall.layout.ns(difference))}".replace("-", "−")
    length, fill = bar if bar else (None, "")
    exact = Cell(exact_difference(fall.layout, difference), difference)
    return [Cell(time, difference, length, fill), exact, share_cell(fall, difference)]


def _by_stage(whole: Comparison) -> list[Para | Table]:
    fall = whole.waterfall
    found = why_table(fall, whole.why)
    heads = ["stage", "difference", *found.titles, "only in"]
    unit = "ns per iteration" if fall.layout.per == "iteration" else "ns"
    note = (
        f"In {unit}, opt minus base: each row sums to its stage's difference, each column to its mechanism's total. Work "
        "is charged at its rate over the whole window, so one stage may do less of it and another more."
    )
    rows = [_stage_row(whole, row) for row in found.rows]
    caption = "difference of each stage by mechanism"
    total = _stage_row(whole, found.total, "all")
    return [Para(note, "note"), Table(caption, heads, rows, numbers=range(1, len(heads) - 1), total=total)]


def _stage_row(whole: Comparison, row: WhyRow, name: str | None = None) -> Row:
    fall = whole.waterfall
    only = {"added": fall.opt, "removed": fall.base}.get(row.status, "")
    figures = (Cell(exact_difference(fall.layout, ns), ns) for ns in (row.difference, *row.cells))
    return Row([name or stage_name(row.stage), *figures, only or text.ABSENT])


# One recording


def made_of_section(side: Side) -> Section | None:
    """What the window of one recording is made of, over all devices: kinds of work and families of idle time, which sum to it.

    Null where no device did anything.
    """
    parts: Counter[tuple[str, str | None]] = Counter()
    for category, cause, ns in side.analysis.ledger.select("category", "cause", "ns").iter_rows():
        parts[category, FAMILY_OF[cause or "unknown"] if category == IDLE else None] += ns
    whole = sum(parts.values())
    if not whole:
        return None
    host = side.analysis.host_only
    ranked = sorted(((key, ns) for key, ns in parts.items() if ns), key=lambda item: (-item[1], item[0][0]))
    rows = [
        Row(
            [
                _what(category, family, host),
                cells.time(ns),
                Cell(f"{ns:,}", ns),
                cells.share(ns / whole, fill=_fill(category, family)),
            ]
        )
        for (category, family), ns in ranked
    ]
    devices = side.analysis.windows.height
    of = "the window" if devices == 1 else f"the windows of {devices} devices"
    total = Row([of, cells.time(whole), Cell(f"{whole:,}", whole), cells.share(1.0)])
    return section(
        "why",
        "What the window is made of",
        Para(f"{_sentence(ranked, whole, of, host)}.", "why"),
        [Para(f"Overlap: {cost}.", "note") for cost in what_overlap_costs(side.analysis)],
        caution([side], "ledger", "causes"),
        Table(
            "the window by kind of work and family of idle time",
            ["what", "time", "ns", "share"],
            rows,
            (1, 2, 3),
            total,
        ),
    )


def _what(category: str, family: str | None, host: bool) -> str:
    if family:
        return f"{'other time' if host else 'idle'}: {FAMILY_WORDS[family]}"
    return "stages that compute" if host and category == "compute" else WORK_WORDS.get(category, f"{category} copies")


def _fill(category: str, family: str | None) -> str:
    return custom_property(FAMILIES[family][0] if family else category)


def _sentence(ranked: Sequence[tuple[tuple[str, str | None], int]], whole: int, of: str, host: bool) -> str:
    """``Of the window, kernels 49.3 %, ...; idle 31.0 %, most of it (20.0 %): host code``; the window is called `of`. Of a
    `host` without a device ``stages that compute 86.8 %; other time 13.2 %``."""
    work = [(_what(*key, host), ns) for key, ns in ranked if key[0] != IDLE]
    idle = [(FAMILY_WORDS[key[1] or "unknown"], ns) for key, ns in ranked if key[0] == IDLE]
    said = [f"{what} {text.share(ns / whole)}" for what, ns in work[:3]]
    busy = capital(f"of {of}, {', '.join(said)}" if said else f"the {'host' if host else 'device'} did nothing in {of}")
    if not idle:
        return f"{busy}; {'no other time' if host else 'the device never idled'}"
    share = text.share(sum(n for _, n in idle) / whole)
    if host:
        return f"{busy}; other time {share}"
    most, ns = idle[0]
    reason = f"most of it ({text.share(ns / whole)}): {most}" if len(idle) > 1 else f"all of it: {most}"
    return f"{busy}; idle {share}, {reason}"
