"""A comparison as tables for people, at most 80 columns wide: windows, stages, terms, kernels, copies, and what to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ...analyze.comparison.changes import Change, launch_count, rest
from ...analyze.comparison.reasons import reasons, remarks, signed
from ...analyze.comparison.waterfall import Term, Waterfall, by_stage, over_devices
from ...analyze.findings.beside import what_overlap_costs
from ...analyze.naming.kernels import short_names
from ...analyze.words import duration, joules, ms, percent, shorten, size, speedup
from ...expectations.comparing.compare import Compared, Comparison
from ...expectations.comparing.notes import tracing, turned, unsure
from ...expectations.comparing.sides import Side
from ...expectations.judging.between import Untraced
from ...expectations.judging.energy import clock_spans, energy_spans
from ...expectations.judging.evidence import COMMAND, WHOLE
from ..why_rows import together, why_table
from .console import GAP, Column, Painted, heading, print_table, say, say_wrapped, terminal_width
from .headroom import print_outcome
from .host_times import print_host_times

LEFT: Final = "left"
LEAST_NAME: Final = 24
"""What is left for a stage's name before families of idle time share a column."""

STAGES: Final = 8
"""Stages listed before the rest is summed."""


def print_compared(found: Compared, top: int, *, by_stage: bool = False) -> None:
    """Print every comparison; `top` rows of terms and of kernels, the others in one row each, so that the rows sum. `by_stage`:
    why stage by stage, too."""
    for head in _heads(found):
        say(head)
    if found.host:
        print_host_times(found, speed_words)
        return
    if found.mode == "ladder":
        _print_ladder(found)
        found_whole = [c for c in found.comparisons if c.role == "total"] or list(found.comparisons[:1])
    else:
        found_whole = list(found.comparisons)
    for comparison in found_whole:
        if found.mode != "pair":
            say()
            heading(_title(comparison))
        _print_comparison(comparison, top, by_stage)


def speed_words(timed: Untraced) -> str:
    """``9.93x, between 9.56x and 10.34x (99.4 %, the median ratio of 12 rounds)``, the exact coverage of the interval."""
    ratio = timed.ratio
    rounds = f"{ratio.n} round{'' if ratio.n == 1 else 's'}"
    n = (
        f"the median ratio of {rounds}"
        if timed.paired and ratio.n > 1
        else f"{rounds}{'' if timed.paired else ' of each'}"
    )
    if timed.timed != "iteration":
        of = "whole processes with start-up" if timed.timed == WHOLE else f"one {timed.timed}"
        n += f", of {of}: {duration(timed.base_ns)} -> {duration(timed.opt_ns)}"
    return speedup(ratio.value, ratio.low, ratio.high, ratio.coverage, n)


def _heads(found: Compared) -> list[str]:
    n = len(found.sides)
    words = ["base", *[""] * (n - 2), "opt"]
    if found.mode == "ladder":
        pairs = [(c.role, c.opt) for c in found.comparisons] + [(c.role, c.opt) for c in found.host]
        last = next((opt for role, opt in pairs if role == "total"), found.sides[-1])
        words = ["base" if i == 0 else "opt" if side is last else "" for i, side in enumerate(found.sides)]
    if found.mode == "occasions":
        words = ["base"] * (n // 2) + ["opt"] * (n // 2)
    width = terminal_width() - 4 - len(GAP)
    return [f"{word:<4}{GAP}{shorten(described(side), width)}" for word, side in zip(words, found.sides, strict=True)]


def described(side: Side) -> str:
    """A side in words: variant and run, or file; window and iterations."""
    meta = side.analysis.meta
    count = side.iterations
    window = "" if side.window is None else f", window {side.window},"
    what = (
        f"{meta.file}{window.rstrip(',')}" if side.run is None else f"{side.name}{window} of {side.run.manifest.run_id}"
    )
    if side.run is not None and side.run.manifest.source == COMMAND:  # its one recording has no name of its own
        what = f"{side.run.manifest.run_id}{window.rstrip(',')}"
    counted = f", {count} iteration{'' if count == 1 else 's'}" if count else ""
    return f"{what} ({meta.recorder} {meta.recorder_version}{counted})"


def _title(comparison: Comparison) -> str:
    if comparison.role == "occasion":
        return f"== {comparison.base.name}: base -> opt"
    return f"== {comparison.base.name} -> {comparison.opt.name}"


def _print_ladder(found: Compared) -> None:
    """Each step's own gain; the steps sum to the total. Alternatives follow, each against what it is one change to."""
    whole = next((c.waterfall for c in found.comparisons if c.role == "total"), found.comparisons[0].waterfall)
    rows = []
    for c in found.comparisons:
        fall = c.waterfall
        name = "total" if c.role == "total" else f"{c.base.name} -> {c.opt.name}"
        ratio = None if fall.ratio is None else f"{fall.ratio:.2f}x"
        timed = None if c.untraced is None else f"{c.untraced.ratio.value:.2f}x{'?' if unsure(c.untraced) else ''}"
        share = None if c.role == "alternative" else _share(whole, fall.difference)
        largest = by_stage(fall.terms)[0] if any(t.difference for t in fall.terms) else None
        where = None if largest is None else f"{largest.stage} {_signed_ms(whole, largest.difference)}"
        rows.append((name, _signed_ms(whole, fall.difference), share, ratio, timed, where))
    columns = [Column("step", LEFT, shrink=True), Column("diff ms"), Column("share")]
    say("")
    print_table([*columns, Column("traced"), Column("untraced"), Column("largest change", LEFT, shrink=True)], rows)
    if any(c.untraced is not None and unsure(c.untraced) for c in found.comparisons):
        say("?: too few rounds, rounds that disagree, or an interval that includes 1")
    known = [(side.name, d) for side in found.sides if (d := side.drawn) is not None and d.joules_per_item is not None]
    if known:
        each = ", ".join(f"{name} {joules(d.joules_per_item)}" for name, d in known)
        say_wrapped(f"energy for one of the {known[0][1].unit}: {each}")
    for c in found.comparisons:
        for sentence in c.objections if c.role != "total" else ():
            say_wrapped(f"NOT COMPARABLE, {c.base.name} -> {c.opt.name}: {sentence}.")
    for c in found.comparisons:
        if c.role != "total" and c.untraced is not None and turned(c.waterfall.ratio, c.untraced.ratio):
            say_wrapped(
                f"note: {c.base.name} -> {c.opt.name}: traced and untraced times disagree on which is faster. Tracing slows "
                "the two sides unequally, so the difference above does not show what the step gains."
            )


def _print_comparison(c: Comparison, top: int, why_by_stage: bool) -> None:
    fall = c.waterfall
    for sentence in c.objections:
        say_wrapped(f"NOT COMPARABLE, {sentence}.")
    _print_windows(fall)
    if c.untraced is not None:
        say_wrapped(f"untraced: {speed_words(c.untraced)}")
        _print_drawn(c, c.untraced)
    doubts = [note for note in tracing(fall, c.base, c.opt, c.untraced) if note in c.notes]
    for note in doubts:  # of the two ratios above, and of every table below
        say_wrapped(f"note: {note}.")
    _print_why(c)
    if why_by_stage:
        _print_why_by_stage(c)
    terms = over_devices(fall.terms)
    _print_stages(fall, by_stage(fall.terms))
    _print_terms(fall, terms, top)
    _print_kernels(c, top)
    _print_copies(c)
    counts = [launch_count(s.analysis) for s in (c.base, c.opt)]
    if any(n is not None for n in counts):
        one, other = ("unknown" if n is None else f"{n:,}" for n in counts)
        say()
        say(f"launches: {one} -> {other}")
    for outcome in c.predictions:
        say()
        print_outcome(outcome)
    others = [note for note in c.notes if note not in doubts]
    if others:
        say("")
    for note in others:
        say_wrapped(f"note: {note}.")


def _print_drawn(c: Comparison, timed: Untraced) -> None:
    """Energy and clocks beside the time, where somebody read them."""
    base, opt = c.base.drawn, c.opt.drawn
    if timed.cycles is not None:
        say(f"in SM cycles, which exclude the difference of the clocks: {timed.cycles:.2f}x")
    if base is None or opt is None:
        return
    parts: dict[str, list[str]] = {}  # by what they are of
    if None not in (base.joules_per_item, opt.joules_per_item):
        each = f"{joules(base.joules_per_item)} -> {joules(opt.joules_per_item)}"
        spans = energy_spans(timed.timed, {"base": base, "opt": opt})
        parts.setdefault(spans, []).append(f"energy {each} for one of the {opt.unit}")
    if base.mhz is not None and opt.mhz is not None:
        clocks = f"SM clock {base.mhz:,.0f} -> {opt.mhz:,.0f} MHz"
        parts.setdefault(clock_spans(timed.timed), []).append(clocks)
    for spans, figures in parts.items():
        say_wrapped(f"{', '.join(figures)}: {spans}")


def _print_windows(fall: Waterfall) -> None:
    for w in fall.windows:
        where = "all devices" if w.base_device is None else f"device {w.base_device}"
        if fall.layout.host and len(fall.windows) == 1:
            where = "host"
        if w.opt_device != w.base_device:
            where = f"{where} -> device {w.opt_device}"
        say(f"{where}: {_sides(fall, w.base_ns, w.opt_ns)}, {signed(fall, w.difference)}")
    if len(fall.windows) > 1:
        say(f"added up: {_sides(fall, fall.base_ns, fall.opt_ns)}, {signed(fall, fall.difference)}")
    if fall.ratio is not None:
        say(f"traced: {fall.ratio:.2f}x")
    if fall.layout.per == "iteration":
        say_wrapped(
            "all times are those of one iteration, on average; numbers of kernels, copies and launches are of all"
        )


def _sides(fall: Waterfall, base_ns: int, opt_ns: int) -> str:
    """``window 1.23 s -> 125 ms``, or ``one iteration 123 ms -> 12.5 ms``, on average."""
    what = "one iteration" if fall.layout.per == "iteration" else "window"
    base, opt = (fall.layout.ns(ns * weight) for ns, weight in zip((base_ns, opt_ns), fall.weights, strict=True))
    return f"{what} {duration(base)} -> {duration(opt)}"


def _print_why(c: Comparison) -> None:
    """The difference by mechanism, a line each, and what to know before reading the tables."""
    fall = c.waterfall
    lines = [(signed(fall, reason.difference), reason.text) for reason in reasons(fall, c.why)]
    width = max((len(figure) for figure, _ in lines), default=0)
    if lines:
        say()
        heading("why, by mechanism:")
    for figure, text in lines:
        say_wrapped(text, f"  {figure:>{width}}  ", " " * (width + 4), style=difference_style(figure))
    for name, side in zip(c.names_apart, (c.base, c.opt), strict=True):
        for cost in what_overlap_costs(side.analysis):
            say_wrapped(f"overlap in {name}: {cost}")
    for sentence in remarks(fall):
        say()
        say_wrapped(f"{sentence[0].upper()}{sentence[1:]}.", rest="")


def _print_why_by_stage(c: Comparison) -> None:
    """A column a mechanism; families of idle time share one where the line is short."""
    if not c.why.by_stage:
        return
    fall, whole = c.waterfall, why_table(c.waterfall, c.why)
    for families in range(whole.families, -1, -1):
        found = whole.with_families(families)
        shown, others = _cut(found.rows, STAGES)
        lines = [*shown, *([together(others, f"({len(others)} more)")] if others else []), found.total]
        names = [row.stage if row.status == "matched" else f"{row.stage} ({row.status})" for row in lines]
        rows = [
            (name, _signed_ms(fall, row.difference), *(_signed_ms(fall, cell) for cell in row.cells))
            for name, row in zip(names, lines, strict=True)
        ]
        columns = zip(("difference", *found.titles), *(row[1:] for row in rows), strict=True)
        widths = [max(map(len, column)) for column in columns]
        name = min(LEAST_NAME, max(map(len, names)))
        if name + sum(widths) + len(GAP) * len(widths) <= terminal_width():
            break
    say()
    say("why, by stage, in ms:" if fall.layout.per == "window" else "why, by stage, in ms per iteration:")
    print_table([Column("stage", LEFT, shrink=True), *map(Column, ("difference", *found.titles))], rows)
    if found.titles != whole.titles:
        say_wrapped("a wider terminal, or COLUMNS, shows more families of idle time; --json has all")


def _print_stages(fall: Waterfall, stages: Sequence[Term]) -> None:
    shown, others = _cut(stages, STAGES)
    rows = [_row(fall, t.stage if t.status == "matched" else f"{t.stage} ({t.status})", t) for t in shown]
    rows += [_row(fall, f"({len(others)} more)", _together(others))] if others else []
    rows.append(_total(fall))
    say("")
    print_table([Column("stage", LEFT, shrink=True), *_FIGURES], rows)


def _print_terms(fall: Waterfall, terms: Sequence[Term], top: int) -> None:
    shown, others = _cut([t for t in terms if t.difference], top)
    spreads = any(t.base_spread is not None for t in terms)
    rows = []
    for t in shown:
        status = "" if t.status == "matched" else f" ({t.status})"
        rows.append((*_row(fall, f"{t.stage}{status}", t, t.what), *([_spread(fall, t)] if spreads else [])))
    if others:
        n = f"{len(others)} smaller terms"
        rows.append((*_row(fall, "(rest)", _together(others), n), *([None] if spreads else [])))
    rows.append((*_total(fall, ""), *([None] if spreads else [])))
    columns = [Column("term", LEFT, shrink=True), Column("what", LEFT), *_FIGURES]
    say("")
    print_table([*columns, *([Column("spread")] if spreads else [])], rows)
    if spreads:
        say_wrapped(_SPREAD)


def _print_kernels(c: Comparison, top: int) -> None:
    if not c.kernels:
        return
    count = {s: sum(k.status == s for k in c.kernels) for s in ("removed", "added", "changed", "same")}
    shown, others = _cut(c.kernels, top)
    short = short_names(k.name for k in c.kernels)
    lines = [*shown, *([rest(others)] if others else []), replace(rest(c.kernels), name="total")]
    rows = [
        (
            short.get(k.name, k.name),
            "" if k.status == "rest" else k.status,
            f"{k.base_ops:,}",
            f"{k.opt_ops:,}",
            *_times(c.waterfall, k),
        )
        for k in lines
    ]
    say()
    say(f"kernels: {', '.join(f'{n} {s}' for s, n in count.items() if n)}")
    columns = [Column("kernel", LEFT, shrink=True), Column("status", LEFT), Column("base n"), Column("opt n")]
    print_table([*columns, *_TIMES], rows)


def _print_copies(c: Comparison) -> None:
    if not c.copies:
        return
    rows = [
        (
            k.name,
            f"{k.base_ops:,}",
            f"{k.opt_ops:,}",
            size(k.base_bytes),
            size(k.opt_bytes),
            *_times(c.waterfall, k),
        )
        for k in c.copies
    ]
    titles = ("base n", "opt n", "base", "opt")
    say("")
    print_table([Column("copies", LEFT), *(Column(x) for x in titles), *_TIMES], rows)


_TIMES: Final = (Column("base ms"), Column("opt ms"), Column("diff ms"))
_FIGURES: Final = (*_TIMES, Column("share"))


def _times(fall: Waterfall, row: Term | Change) -> tuple[str, str, Painted]:
    """Baseline, optimized and their signed difference in ms; of an iteration where iterations are compared."""
    weight, against = fall.weights
    base, opt = fall.layout.ns(row.base_ns * weight), fall.layout.ns(row.opt_ns * against)
    difference = _signed_ms(fall, row.difference)
    return ms(base), ms(opt), Painted(difference, difference_style(difference))


def _signed_ms(fall: Waterfall, difference: int) -> str:
    return f"{'+' if difference > 0 else ''}{ms(fall.layout.ns(difference))}"


def difference_style(figure: str) -> str:
    """Green for time saved, red for time added; a figure that shows as nothing has none."""
    if not any(digit in figure for digit in "123456789"):
        return ""
    return "green" if figure.startswith("-") else "red"


def _row(fall: Waterfall, name: str, term: Term, *what: str) -> tuple[object, ...]:
    return (name, *what, *_times(fall, term), _share(fall, term.difference))


def _share(fall: Waterfall, difference: int) -> str | None:
    share = fall.share(difference)
    return None if share is None else percent(share)


def _total(fall: Waterfall, *what: str) -> tuple[object, ...]:
    return _row(fall, "total", _together(fall.terms), *what)


def _together(terms: Sequence[Term]) -> Term:
    base, opt, difference = (
        sum(t.base_ns for t in terms),
        sum(t.opt_ns for t in terms),
        sum(t.difference for t in terms),
    )
    return Term(None, "", "all", None, "matched", base, opt, difference, None, None)


_SPREAD: Final = "spread: interquartile range over iterations (the larger side's) / difference"
"""Of a term, per iteration."""


def _spread(fall: Waterfall, term: Term) -> str | None:
    """The larger interquartile range over iterations, as a share of the term per iteration."""
    sides = [s for s in (term.base_spread, term.opt_spread) if s is not None and s.n > 1]
    if len(sides) < 2 or not term.difference:
        return None
    iterations = 1 if fall.layout.per == "iteration" else sides[0].n
    share = max(s.width for s in sides) / abs(fall.layout.ns(term.difference) / iterations)
    return percent(share, 0) if share < 10 else "> 10x"


def _cut(rows: Sequence, most: int) -> tuple[list, list]:  # type: ignore[type-arg]
    """The first `most` rows, and the others; never a rest of one row, which can as well be shown."""
    kept = len(rows) if len(rows) <= most + 1 else most
    return list(rows[:kept]), list(rows[kept:])
