"""The page: one HTML file with everything inside, that reads the same on any machine, online or not.

    top         verdict in one line: ratio, interval, bound, the strongest caution; the numbers that matter
    why         one sentence, and the difference by mechanism; of one recording, what its window is made of
    left        findings, ranked by what a change could save
    timeline    what ran when
    below       waterfall, ledger, stages, kernels, copies, gaps, iterations, rounds, memory, communication, counters; claims,
                trust, how to reproduce it, environment

The same for a run, a comparison and a bare trace; a section whose figures no trace carries (no counters, say) is not there.

The file carries its own style, scripts and, deflated, plotly.js, unpacked when the first chart comes into view. Its content
security policy forbids every request, and every script whose hash it does not name, also that of plotly.js: should a
recorded name ever slip through the escaping of the templates, it still could not run.

Sections are pure functions from results to values (`blocks`), of which templates make markup; nothing here touches a file but
those of the page's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Final

from ...analyze.result import Analysis
from ...analyze.sources import USUAL, Asked
from ...expectations.comparing.compare import Compared, Comparison, HostComparison, compare_analysed
from ...expectations.judging.between import Member, different_work, untraced
from ...expectations.judging.energy import Drawn, drawn, gain_in_cycles
from ...expectations.judging.evidence import Evidence, gather
from ...expectations.judging.predictions import Outcome
from ...expectations.judging.verdict import Verdict
from ...expectations.judging.verdict import headline as parts_judged
from ...traces.model import Trace
from ...traces.output import Kind
from ...traces.run import Allocator, Run
from ...traces.unread import is_page
from ..palette import on_dark
from . import timeline
from .allocator import allocator_section
from .base85 import decoder
from .blocks import Section, without
from .bundle import packed_plotly
from .communication import communication_section
from .copies import bandwidth_section, overlap_section
from .counters import counters_section
from .critical import critical_section
from .frame import framed
from .gaps import gaps_section
from .host_times import host_section, top_of_host
from .iterations import iterations_section
from .launches import launches_section
from .ledger import ledger_section
from .left import left_section
from .markup import Html, clip, embedded_json
from .memory import memory_section
from .operators import operators_section
from .provenance import environment_section, reproduce_section, selected
from .sides import Side, several_devices, sides_of
from .speed import Speedup, round_medians, speed_section, speedups
from .stages import stages_section
from .streams import streams_section
from .templates import html_of
from .top import Ratio, Top, cautions_of, ratio_of, top_of_one, top_of_pair
from .trust import trust_section
from .verdicts import claims_section, lines_of, summary
from .waterfall import waterfall_section
from .why import made_of_section, why_section

HERE: Final = Path(__file__).parent


ZERO: Final = (
    "Times such as +12.5ms count from the first device operation of their trace, as on the terminal, in `--window +START:+END` "
    "and on the axis of the timeline."
)
"""Said once, for the whole page."""

MOST_GAPS: Final = 500
"""Idle gaps of one device whose cause is at hand, the longest of the window."""

PAGE: Final = Kind("report of aisp-trace", is_page, endings=(".html", ".htm"))


def render(
    run: Run | None,
    analyses: Sequence[Analysis],
    traces: Mapping[str, Trace],
    verdicts: Sequence[Verdict] | None = None,
    *,
    version: str = "",
    notes: Sequence[str] = (),
    predictions: Sequence[Outcome] = (),
    scrubbed: bool = False,
    asked: Asked = USUAL,
    shown: Callable[[str], str] = str,
) -> str:
    """The page of a run, or of a bare trace (`run` null).

    `analyses` come in the order of the variants, baseline first; `traces` hold the recording of each by its
    variant (for a bare trace, by the file its `Meta` names) and may lack some: those get no timeline. `verdicts` null
    means that nothing was to be judged, an empty sequence that no expectation applied; `notes` are what the judge noted, and
    `predictions` what came of those. `scrubbed`: all of it is a scrubbed copy, as the footer then says. `asked`
    is what the analyses were made with, and its words are `shown` so.
    """
    sides = sides_of(analyses)
    by_name = {side.name: side.analysis for side in sides}
    compared = compare_analysed(by_name, _by_name(sides, traces), run, predictions, asked)
    return _rendered(run, sides, traces, verdicts, version, compared, notes, asked, scrubbed=scrubbed, shown=shown)


def _by_name(sides: Sequence[Side], traces: Mapping[str, Trace]) -> dict[str, Trace]:
    return {side.name: traces[side.key] for side in sides if side.key in traces}


def render_comparison(
    found: Comparison | HostComparison,
    traces: Sequence[Trace | None],
    *,
    version: str = "",
    asked: Asked = USUAL,
    scrubbed: bool = False,
    shown: Callable[[str], str] = str,
) -> str:
    """The page of two recordings that were compared, by host time alone where one has no device operations.

    `traces` are those of the base and of the opt; null: no timeline. `asked` is what they were looked at with; `scrubbed` and
    `shown` as of `render`.
    """
    words = ("base", "opt")
    given = (found.base, found.opt)
    same = found.base.name == found.opt.name
    sides = [
        Side(f"{side.name} ({word})" if same else side.name, side.analysis, trace=word)
        for word, side in zip(words, given, strict=True)
    ]
    base, opt = (side.name for side in sides)
    known = {word: trace for word, trace in zip(words, traces, strict=True) if trace is not None}
    if isinstance(found, HostComparison):
        return _rendered(None, sides, known, None, version, None, (), asked, found, scrubbed, shown)
    told = replace(found, waterfall=replace(found.waterfall, base=base, opt=opt)) if same else found
    return _rendered(
        None, sides, known, None, version, Compared("pair", given, (told,)), (), asked, None, scrubbed, shown
    )


def _rendered(
    run: Run | None,
    sides: Sequence[Side],
    traces: Mapping[str, Trace],
    verdicts: Sequence[Verdict] | None,
    version: str,
    compared: Compared | None,
    notes: Sequence[str],
    asked: Asked,
    host: HostComparison | None = None,
    scrubbed: bool = False,
    shown: Callable[[str], str] = str,
) -> str:
    options = [shown(word) for word in asked.options]
    lines = None if verdicts is None else lines_of(verdicts)
    evidence = gather(run, {}) if run else None
    whole, steps = _of_ladder(compared)
    rungs = _rungs(sides, run)
    names = (sides[0].name, sides[-1].name) if sides else ("", "")
    top = top_of_host(host, names) if host else _top(evidence, rungs, verdicts or (), whole, asked)
    lanes = _timeline(sides, traces)
    above = _slimmed(
        sides,
        host_section(host, names) if host else _why(sides, whole, steps),
        left_section(rungs),
    )
    below = _slimmed(
        sides,
        *(_analysed(sides, rungs, whole, steps, run) if sides else []),
        _rounds(evidence),
        claims_section(lines),
        trust_section(sides, run.manifest.notes if run else ()),
        reproduce_section(run, sides, version, [*options, *([] if asked.fold else ["--no-fold"])]),
        environment_section(run, sides),
    )
    parts = [*above, *below]
    figures = {chart.anchor: dict(chart.figure) for part in parts for chart in part.charts}
    bundle = packed_plotly() if figures else None
    scripts = [_file("tables.js"), decoder() + _file("charts.js"), *([lanes.script] if lanes else [])]
    return framed(
        "page.html",
        version=version,
        title=_title(run, sides),
        contents=_contents(above, lanes is not None, below),
        style=lanes.style if lanes else "",
        scripts=scripts,
        unpacked=[bundle.script_hash] if bundle else [],
        scrubbed=scrubbed,
        images="data: blob:",  # plotly exports its figures as images
        facts=_facts(run, sides),
        selected=selected(options, judged=bool(verdicts)),
        top=top,
        claims=summary(lines),
        judged=_judged(verdicts, top if asked.chosen_window is None else None),
        notes=notes,
        zero=ZERO if any(side.analysis.first_op_ns is not None for side in sides) else "",
        above=[html_of(part) for part in above],
        timeline=lanes.markup if lanes else Html(""),
        timeline_data=lanes.data if lanes else Html(""),
        below=[html_of(part) for part in below],
        figures=embedded_json({"figures": figures, "dark": on_dark()}),
        bundle=Html(bundle.text) if bundle else None,
    )


def _why(sides: Sequence[Side], whole: Comparison | None, steps: Sequence[Comparison]) -> Section | None:
    if len(sides) == 1:
        return made_of_section(sides[0])
    return why_section(whole, steps)


def _slimmed(sides: Sequence[Side], *parts: Section | None) -> list[Section]:
    """The sections that are there, without columns that say the same in every row."""
    one_side = ("variant",) if len(sides) == 1 else ()
    one_device = () if not sides or several_devices(sides) else ("device",)
    return [without(part, (*one_side, *one_device)) for part in parts if part is not None]


def _of_ladder(compared: Compared | None) -> tuple[Comparison | None, list[Comparison]]:
    """The comparison of the first with the last rung, and those of each rung with the one before it."""
    if compared is None or not compared.comparisons:
        return None, []
    whole = next((c for c in compared.comparisons if c.role in ("total", "pair")), compared.comparisons[0])
    return whole, [c for c in compared.comparisons if c.role == "step"]


def _top(
    evidence: Evidence | None,
    rungs: Sequence[Side],
    verdicts: Sequence[Verdict],
    whole: Comparison | None,
    asked: Asked,
) -> Top:
    names = [side.name for side in rungs] if evidence is None or len(rungs) > 1 else _timed_rungs(evidence)
    if len(names) == 1 and rungs:
        return top_of_one(rungs[0])
    ratio: Ratio | None = None
    energies: list[Drawn] = []
    cautions = cautions_of(whole)
    if len(names) > 1:
        pair = (names[0], names[-1])
        timed = whole.untraced if whole else None
        if whole is None and evidence is not None:
            base, opt = (Member(evidence, name) for name in pair)
            timed = untraced(base, opt)
            cautions = [f"Not comparable: different work: {one}" for one in different_work(base, opt)]
        ratio = ratio_of(pair, verdicts, timed, whole)
        rows = [] if evidence is None or asked.chosen_window is not None else drawn(evidence)
        energies = [row for row in rows if row.variant in pair and row.joules_per_item is not None]
    ends = [rungs[0], rungs[-1]] if len(rungs) > 1 else list(rungs)
    return top_of_pair(ratio, ends, cautions, energies, () if whole is None else whole.notes)


def _timed_rungs(evidence: Evidence) -> list[str]:
    """The variants of a run in which nothing was traced, without alternatives."""
    alternatives = evidence.manifest.alternatives if evidence.manifest else {}
    return [name for name in evidence.variants if name not in alternatives] or list(evidence.variants)


def _rounds(evidence: Evidence | None) -> Section | None:
    if evidence is None:
        return None
    variants = list(evidence.variants)
    medians = round_medians(evidence.rounds, variants)
    found: list[Speedup] = speedups(evidence)
    first = variants[0]
    energies = [
        (row, None if row.variant == first else gain_in_cycles(evidence, first, row.variant)) for row in drawn(evidence)
    ]
    return speed_section(medians, found, evidence.timed, energies)


def _judged(verdicts: Sequence[Verdict] | None, top: Top | None) -> str:
    """What the verdicts amount to, part by part; `top` has the ratio that was judged, null: another one."""
    if not verdicts:
        return ""
    tile = next((tile for tile in top.tiles if tile.ratio), None) if top else None
    return parts_judged(verdicts, tile.ratio, tile.ends[-1][0]) if tile else parts_judged(verdicts)


def _rungs(sides: Sequence[Side], run: Run | None) -> list[Side]:
    """The sides of the ladder; alternatives are compared with what they change, by ``compare``, not with the first."""
    alternatives = run.manifest.alternatives if run else {}
    return [side for side in sides if side.name not in alternatives] or list(sides)


def _analysed(
    sides: Sequence[Side],
    rungs: Sequence[Side],
    whole: Comparison | None,
    steps: Sequence[Comparison],
    run: Run | None,
) -> list[Section | None]:
    """The sections that are read off the analyses, what matters most first; on copies only where devices did anything."""
    if all(side.analysis.windows.is_empty() for side in sides):
        host = [ledger_section(sides), stages_section(sides), operators_section(sides)]
        return [*host, iterations_section(sides), memory_section(sides)]
    return [
        waterfall_section(rungs, whole, steps),
        ledger_section(sides),
        critical_section(sides),
        stages_section(sides),
        launches_section(sides),
        operators_section(sides),
        overlap_section(sides),
        bandwidth_section(sides),
        gaps_section(sides),
        iterations_section(sides),
        memory_section(sides),
        allocator_section(sides, _counters(run)),
        communication_section(sides),
        counters_section(sides),
        streams_section(sides),
    ]


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _title(run: Run | None, sides: Sequence[Side]) -> str:
    if run is None:
        names = (
            [clip(PurePath(side.analysis.meta.file).name) for side in sides]
            if len(sides) < 2
            else [s.name for s in sides]
        )
        return " → ".join(names) or "trace"
    hardware = run.manifest.hardware
    where = ", ".join(dict.fromkeys(hardware.gpus)) if hardware.gpus else hardware.cpu
    many = f"{len(hardware.gpus)} × " if len(hardware.gpus) > 1 else ""
    return f"{run.manifest.workload} on {many}{where}"


def _facts(run: Run | None, sides: Sequence[Side]) -> str:
    if run is not None:
        m = run.manifest
        by = f"recorded by {m.recorder}" if m.recorder else "timed without a recorder"
        return f"{m.run_id} · {m.created_utc} · profile {m.profile} · {by}"
    recorders = [(s.analysis.meta.recorder, s.analysis.meta.recorder_version) for s in sides]
    named = (
        f"{name}.profiler" if name == "torch" else f"{name} {version}".removesuffix(" unknown")
        for name, version in recorders
    )
    by = ", ".join(dict.fromkeys(named))
    what = "one trace" if len(sides) == 1 else f"{len(sides)} recordings compared"
    return f"{what}, recorded by {by}" if sides else ""


def _contents(above: Sequence[Section], drawn: bool, below: Sequence[Section]) -> list[tuple[str, str]]:
    """Anchor and title of every part."""
    shown = [("timeline", "Timeline")] if drawn else []
    return [*((part.anchor, part.title) for part in above), *shown, *((part.anchor, part.title) for part in below)]


def _counters(run: Run | None) -> dict[str, list[Allocator]]:
    out: dict[str, list[Allocator]] = {}
    for one in run.manifest.rounds if run else ():
        for result in one.result.variants:
            out.setdefault(result.name, []).append(result.allocator)
    return out


def _timeline(sides: Sequence[Side], traces: Mapping[str, Trace]) -> timeline.Section | None:
    """The timeline of those sides whose trace is at hand; links name them as the tables do."""
    known = [(side, traces[side.key]) for side in sides if side.key in traces]
    return timeline.section([timeline.Shown(side.name, clip(side.name), trace, side.analysis) for side, trace in known])
