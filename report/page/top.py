"""The top of the page: the verdict in one line with its interval, bound and strongest caution, and the numbers that matter.

One pair of names goes through all of it: the baseline and the last rung of a run, the base and the opt of a comparison. The ratio
of the headline and that of the tile are one value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ...analyze.attribution.stages import MEASURED
from ...analyze.attribution.window import STEADY
from ...analyze.comparison.waterfall import Waterfall
from ...analyze.findings.missing import missing_sentences
from ...expectations.comparing.compare import Comparison
from ...expectations.comparing.notes import turned
from ...expectations.judging.between import Untraced
from ...expectations.judging.energy import Drawn
from ...expectations.judging.evidence import WHOLE
from ...expectations.judging.verdict import Verdict
from . import text
from .allocator import stall_ns
from .blocks import Span
from .cells import CANNOT_TELL
from .copies import NO_COPIES, exposed_copy_ns, hidden_share
from .sides import Side, iterations
from .verdicts import FINE, bound_words, chip, quantity


@dataclass(frozen=True, slots=True)
class Tile:
    """One number: the value of each side under its name, or one value without a name. `ratio` stands beside them."""

    label: str
    ends: Sequence[tuple[str, str]]
    note: str
    ratio: str = ""


@dataclass(frozen=True, slots=True)
class Top:
    """The headline's sentence, its interval and bound, the judged status, what speaks against it (the strongest first), tiles."""

    headline: str
    working: str
    status: Sequence[Span]
    cautions: Sequence[str]
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast `opt` is as `base`: `value`, `working` (interval, sample, basis, bound), and the judged `status`.

    `times_ns` are the two times that it is of, `basis` what these are; `of_iterations`: of one iteration each.
    """

    base: str
    opt: str
    value: float
    working: str
    times_ns: tuple[float, float]
    basis: str
    status: Sequence[Span] = ()
    cautions: Sequence[str] = ()
    of_iterations: bool = True

    @property
    def words(self) -> str:
        return f"{text.significant(self.value)} ×"


def top_of_pair(
    ratio: Ratio | None,
    ends: Sequence[Side],
    cautions: Sequence[str],
    drawn: Sequence[Drawn] = (),
    notes: Sequence[str] = (),
) -> Top:
    """Of a run or comparison, whose first and last sides are `ends` (none where nothing was recorded). What is in doubt comes
    before `notes`, which say how the two were compared."""
    tiles: list[Tile] = []
    headline, working = "Nothing was timed on both sides, so there is no speedup", ""
    status: Sequence[Span] = ()
    against: list[str] = []
    if ratio is not None:
        headline = f"{ratio.opt} is {ratio.words} as fast as {ratio.base}"
        working, status, against = ratio.working, ratio.status, [*ratio.cautions]
        times = [(name, text.duration(ns)) for name, ns in zip((ratio.base, ratio.opt), ratio.times_ns, strict=True)]
        tiles.append(Tile("iteration" if ratio.of_iterations else "time", times, ratio.basis, ratio.words))
    tiles += _of_traces(ends)
    if drawn:
        energies = [(row.variant, text.joules(row.joules_per_item)) for row in drawn]
        tiles.append(
            Tile(f"energy, one of the {drawn[0].unit}", energies, "untraced, with what lies between iterations")
        )
    doubts = [_of_side(side, one.rstrip(".")) for side in ends for one in missing_sentences(side.analysis)]
    grave = [*against, *cautions, *doubts, *_distrusted(ends), *notes]
    return Top(headline, working, status, _said_once(grave), tiles)


def _said_once(cautions: Sequence[str]) -> list[str]:
    """`cautions` with the reasons that none as grave before them gave: several figures of both sides may rest on one."""
    kept: list[str] = []
    for one in dict.fromkeys(cautions):
        found = _BEFORE_REASONS.match(one)
        head = found[0] if found else ""
        closing = ")" if head.endswith("(") else ""
        as_grave = [before for before in kept if _UNTOLD in before or _UNTOLD not in one]
        reasons = one.removeprefix(head).removesuffix(closing).split("; ") if head else [one]
        new = [reason for reason in reasons if not any(reason in before for before in as_grave)]
        if new:
            kept.append(f"{head}{'; '.join(new)}{closing}")
    return kept


_UNTOLD: Final = "cannot be given"
_BEFORE_REASONS: Final = re.compile(
    rf"^(?:\w+ of .*? (?:{_UNTOLD}|is only partly trusted): |\w+: [\w, ]+ (?:{_UNTOLD}|only partly trusted) \()",
    re.DOTALL,
)
"""What `_distrusted` and the notes of a comparison (`expectations.comparing.notes`) put before their reasons."""


def _of_side(side: Side, doubt: str) -> str:
    """``DOUBT: ...`` of one of two recordings, as ``DOUBT in opt: ...``."""
    word, colon, rest = doubt.partition(": ")
    return f"{word} in {side.name}: {rest}" if colon and word.isupper() else f"{side.name}: {doubt}"


def top_of_one(side: Side) -> Top:
    """Of a bare trace: how long an iteration takes, or the window, and how busy the device is in it."""
    a = side.analysis
    steady = a.steady
    cautions = [*(one.rstrip(".") for one in missing_sentences(a)), *_distrusted([side])]
    if a.windows.is_empty():
        host = "" if steady is None else f"An iteration takes {text.duration(steady.median_ns)} on the host; "
        none = "recorded" if a.first_op_ns is None else "of any length in this window"
        said = f"{host or 'Only host times are known: '}no device operation was {none}"
        return Top(said, "", (), _said_once(cautions), [])
    busy = _busy(side)
    which = "devices" if a.windows.height > 1 else "device"
    chosen = a.choices.window not in (None, STEADY, MEASURED)
    of = "it" if chosen or steady is None or _covered(side) > MOSTLY else f"the window of {_window(side)}"
    worked = f"{busy} of {of} at work" if a.host_only else f"the {which} busy {busy} of {of}"
    device = f", {worked}" if busy != CANNOT_TELL else ""
    tiles = _of_traces([side])
    if chosen:
        said, working = f"The window takes {_window(side)}{device}", "the part of the recording that was selected"
    elif steady is None or a.iterations.is_empty():
        said, working = (
            f"The window takes {_window(side)}{device}",
            "no iterations were found, so the whole recording is counted",
        )
    else:
        mean = steady.by_mean
        takes = text.duration(steady.each_ns)
        said = f"An iteration takes {takes}{' on average' if mean else ''}{device}"
        which = f"{'mean' if mean else 'median'} of {text.count(len(steady.steady), 'iteration')}"
        slowest = text.duration(steady.slowest.ns)
        working = which if steady.behind_ns else f"{which}, p90 {text.duration(steady.p90_ns)}, slowest {slowest}"
        tiles.insert(0, Tile("iteration", [("", takes)], working))
    return Top(said, f"{working}; one recording, traced, with nothing to compare with", (), _said_once(cautions), tiles)


MOSTLY: Final = 0.9
"""Part of the window from which on its iterations are all that it holds."""


def _covered(side: Side) -> float:
    """How much of the longest window lies in iterations."""
    windows = side.analysis.windows
    longest = max((windows["end_ns"] - windows["start_ns"]).to_list())
    return int(side.analysis.iterations["host_ns"].sum()) / longest if longest else 0.0


def ratio_of(
    pair: tuple[str, str], verdicts: Sequence[Verdict], timed: Untraced | None, compared: Comparison | None
) -> Ratio | None:
    """The one number that the page begins with: as judged, else of the untraced rounds, else of the traced windows.

    Null where neither was timed nor compared.
    """
    judged = next((v for v in verdicts if _judges(v, *pair)), None)
    if timed is not None:
        return _of_rounds(pair, timed, judged)
    return None if compared is None else _of_windows(pair, compared.waterfall)


def _judges(v: Verdict, base: str, opt: str) -> bool:
    named = v.quantity.endswith(f" over {base}") or " over " not in v.quantity
    return v.part == "speedup" and v.unit == "ratio" and v.variant == opt and v.value is not None and named


def _of_rounds(pair: tuple[str, str], timed: Untraced, judged: Verdict | None) -> Ratio:
    times, each = (timed.base_ns, timed.opt_ns), timed.timed != WHOLE
    basis = "untraced, median of the rounds; the speedup is the median of their ratios"
    if not each:
        basis = f"whole processes, start-up included; {basis.removeprefix('untraced, ')}"
    doubts = [c.text for c in timed.concerns]
    if judged is None or judged.value is None:
        e = timed.ratio
        ends = "too few rounds for an interval"
        if e.low is not None and e.high is not None:
            ends = f"between {text.significant(e.low)} × and {text.significant(e.high)} ×"
        working = f"{ends}; {text.count(e.n, 'untraced round')}; no bound was judged"
        return Ratio(*pair, e.value, working, times, basis, (), doubts, each)
    parts = []
    if judged.low is not None and judged.high is not None:
        parts.append(f"between {quantity(judged.low, 'ratio')} and {quantity(judged.high, 'ratio')}")
    covered = "" if judged.coverage is None else f", {judged.coverage:.1%} interval"
    parts.append(f"{judged.n:,} untraced {judged.sample}{covered}")
    if judged.bound:
        parts.append(f"bound {bound_words(judged)} ({judged.source.kind})")
    against = [] if judged.status in FINE else [f"{judged.status}: {judged.reason}"]
    status = [chip(judged.status)]
    return Ratio(*pair, judged.value, "; ".join(parts), times, basis, status, [*against, *doubts], each)


def _of_windows(pair: tuple[str, str], fall: Waterfall) -> Ratio | None:
    if fall.ratio is None:
        return None
    base, opt = (
        fall.layout.ns(ns * weight) for ns, weight in zip((fall.base_ns, fall.opt_ns), fall.weights, strict=True)
    )
    each = fall.layout.per == "iteration"
    working = "one traced recording of each: no interval, no bound"
    basis = "traced" if each else "the window, traced"
    return Ratio(*pair, fall.ratio, working, (base, opt), basis, of_iterations=each)


def cautions_of(compared: Comparison | None) -> list[str]:
    """What speaks against a comparison, the gravest first."""
    if compared is None:
        return []
    found = [f"Not comparable: {one}" for one in compared.objections]
    if compared.untraced is not None and turned(compared.waterfall.ratio, compared.untraced.ratio):
        found.append("traced and untraced times disagree on which is faster: tracing slows the two sides unequally")
    return found


def _distrusted(sides: Sequence[Side]) -> list[str]:
    """What the top rests on: metrics that some side lacks, then those it has in part."""
    rows = [
        (level, metric, side.name, reason)
        for side in sides
        for metric, level, reason in side.analysis.trust.select("metric", "level", "reason").iter_rows()
        if metric in _RESTED_ON and level != "ok"
    ]
    said = {"unavailable": _UNTOLD, "partial": "is only partly trusted"}
    return [
        f"{metric} of {name} {said[level]}: {reason}"
        for wanted in said
        for level, metric, name, reason in rows
        if level == wanted
    ]


_RESTED_ON = ("ledger", "causes", "overlap", "time")


# Tiles of the traces


def _of_traces(ends: Sequence[Side]) -> list[Tile]:
    if not ends or all(side.analysis.windows.is_empty() for side in ends):
        return []
    if all(side.analysis.host_only for side in ends):  # no copies, and no allocator's calls, are recorded of a host
        return [Tile("at work", _each(ends, _busy), "of the traced window; no device was recorded")]
    per = "per traced iteration" if all(iterations(side) for side in ends) else "in the window"
    return [
        Tile("device busy", _each(ends, _busy), "of the traced window"),
        Tile("copies hidden", _each(ends, _hidden), "under kernels or collectives"),
        Tile("exposed copies", _each(ends, _exposed), per),
        Tile("allocator stall", _each(ends, _stall), per),
    ]


def _each(sides: Sequence[Side], number: Callable[[Side], str]) -> list[tuple[str, str]]:
    return [(side.name if len(sides) > 1 else "", number(side)) for side in sides]


def _window(side: Side) -> str:
    windows = side.analysis.windows
    return text.duration(max((windows["end_ns"] - windows["start_ns"]).to_list()))


def _hidden(side: Side) -> str:
    return CANNOT_TELL if side.cannot_tell("overlap") else text.share(hidden_share(side), NO_COPIES)


def _exposed(side: Side) -> str:
    if side.cannot_tell("overlap"):
        return CANNOT_TELL
    ns = exposed_copy_ns(side)
    return NO_COPIES if ns is None else text.duration(ns / max(iterations(side), 1))


def _busy(side: Side) -> str:
    ledger = side.analysis.ledger
    total = int(ledger["ns"].sum())
    if side.cannot_tell("ledger") or not total:
        return CANNOT_TELL
    return text.share(int(ledger.filter(pl.col("category") != "idle")["ns"].sum()) / total)


def _stall(side: Side) -> str:
    ns = stall_ns(side)
    return CANNOT_TELL if ns is None else text.duration(ns / max(iterations(side), 1)) if ns else "none"
