"""The page: one HTML file with everything inside, that reads the same on any machine, online or not.

    header      what was measured, the verdicts, the numbers that matter
    sections    verdict, speed, what is slow, timeline
                why it became faster; why the device waited: waterfall, stages, ledger, largest gaps
                what moved: copies, communication, bandwidth, memory traffic
                detail, mostly folded: iterations, kernels and launches, streams, memory, allocator
                trust, provenance

A section whose figures no trace carries (no collectives, no counters) is not there.

The file carries its own style, scripts and plotly.js (4.8 MB, for the figure of the rounds). Its content security
policy forbids every request, and every script whose hash it does not name: should a recorded name ever slip through
the escaping of `markup`, it still could not run.

Sections are pure functions from results to markup; nothing here touches a file but those of the page's own style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from string import Template
from typing import Final

from plotly.offline import get_plotlyjs

from ...analyze.result import Analysis
from ...expectations.comparing.compare import Comparison
from ...expectations.judging.energy import Drawn, drawn, gain_in_cycles
from ...expectations.judging.evidence import Evidence, gather
from ...expectations.judging.verdict import Verdict
from ...expectations.judging.verdict import headline as parts_judged
from ...traces.model import Trace
from ...traces.output import Kind
from ...traces.run import Allocator, Run
from . import text, timeline
from .allocator import allocator_section
from .bars import hatch
from .communication import communication_section
from .copies import bandwidth_section, overlap_section
from .counters import counters_section
from .figures import Figure, rounds_figure
from .findings import findings_section
from .gaps import gaps_section
from .iterations import iterations_section
from .launches import launches_section
from .ledger import ledger_section
from .markup import Html, clip, element, embedded_json, escape, join
from .memory import memory_section
from .provenance import provenance_section
from .sides import Side, sides_of
from .speed import Speedup, headline, round_medians, speed_section, speedups
from .stages import stages_section
from .streams import streams_section
from .tiles import tiles
from .trust import trust_section
from .verdicts import Line, lines_of, summary, verdict_section
from .waterfall import waterfall_section
from .why import why_section

HERE: Final = Path(__file__).parent


def is_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is a page of `render`."""
    return head.startswith(b"<!DOCTYPE html>") and b'<meta name="generator" content="aisp-trace ' in head[:4096]


ZERO: Final = (
    "Instants, such as +12.5ms, count from the first device operation of their trace, as the terminal tells them and `--window "
    "+START:+END` takes them."
)
"""Said once, for the whole page."""

MOST_GAPS: Final = 500
"""Idle gaps of one device that a timeline draws, the longest of the window."""

PAGE: Final = Kind("report of aisp-trace", is_page)


def render(
    run: Run | None,
    analyses: Sequence[Analysis],
    traces: Mapping[str, Trace],
    verdicts: Sequence[Verdict] | None = None,
    *,
    version: str = "",
) -> str:
    """The page of a run, or of a bare trace (`run` null).

    `analyses` come in the order of the variants, baseline first; `traces` hold the recording of each by its
    variant (for a bare trace, by the file its `Meta` names) and may lack some: those get no timeline. `verdicts` null
    means that nothing was to be judged, an empty sequence that no expectation applied.
    """
    return _rendered(run, sides_of(analyses), traces, verdicts, version)


def render_comparison(found: Comparison, traces: Sequence[Trace | None], *, version: str = "") -> str:
    """The page of two recordings that were compared. `traces` are those of the base and of the opt; null: no timeline."""
    words = ("base", "opt")
    given = (found.base, found.opt)
    same = found.base.name == found.opt.name
    sides = [
        Side(f"{side.name} ({word})" if same else side.name, side.analysis, trace=word)
        for word, side in zip(words, given, strict=True)
    ]
    known = {word: trace for word, trace in zip(words, traces, strict=True) if trace is not None}
    return _rendered(None, sides, known, None, version, found)


def _rendered(
    run: Run | None,
    sides: Sequence[Side],
    traces: Mapping[str, Trace],
    verdicts: Sequence[Verdict] | None,
    version: str,
    compared: Comparison | None = None,
) -> str:
    lines = None if verdicts is None else lines_of(verdicts)
    evidence = gather(run, {}) if run else None
    rounds = evidence.rounds if evidence else ()
    variants = [v.name for v in run.manifest.variants] if run else []
    medians = round_medians(rounds, variants)
    found = speedups(rounds, variants)
    energies = _energies(evidence) if evidence else []
    figures: dict[str, Figure] = {}
    if medians:
        figures["figure-rounds"] = rounds_figure(medians)
    lanes = _timeline(sides, traces)
    parts = [
        verdict_section(lines),
        speed_section(medians, found, evidence.timed if evidence else "iteration", energies),
        findings_section(sides),
        lanes.markup if lanes else None,
        *(_analysed(sides, run, compared) if sides else []),
        trust_section(sides, run.manifest.notes if run else ()),
        provenance_section(run, sides),
    ]
    sections = [part for part in parts if part is not None]
    scripts = [*([get_plotlyjs(), _file("page.js")] if figures else []), *([lanes.script] if lanes else [])]
    title = _title(run, sides)
    rungs = _of_rungs(found, run)
    judged = parts_judged(verdicts, f"{text.significant(rungs[-1].ratio.value)}x" if rungs else "") if verdicts else ""
    return Template(_file("page.html")).substitute(
        policy=_policy(scripts),
        version=escape(version),
        title=escape(f"{title} · aisp-trace"),
        style=_file("page.css") + (lanes.style if lanes else ""),
        defs=hatch(),
        header=_header(run, sides, title, lines, medians, found, judged, [row for row, _ in energies]),
        contents=_contents(sections),
        body="\n".join(sections),
        figures=embedded_json(figures),
        scripts=(lanes.data if lanes else "") + "".join(f"\n<script>{script}</script>" for script in scripts),
    )


def _energies(evidence: Evidence) -> list[tuple[Drawn, float | None]]:
    """Each variant's energy and clock, and what it gains over the first in SM cycles."""
    first = next(iter(evidence.variants))
    return [
        (row, None if row.variant == first else gain_in_cycles(evidence, first, row.variant)) for row in drawn(evidence)
    ]


def _rungs(sides: Sequence[Side], run: Run | None) -> list[Side]:
    """The sides of the ladder; alternatives are compared with what they change, by ``compare``, not with the first."""
    alternatives = run.manifest.alternatives if run else {}
    return [side for side in sides if side.name not in alternatives] or list(sides)


def _of_rungs(found: Sequence[Speedup], run: Run | None) -> list[Speedup]:
    alternatives = run.manifest.alternatives if run else {}
    return [one for one in found if one.variant not in alternatives] or list(found)


def _analysed(sides: Sequence[Side], run: Run | None, compared: Comparison | None) -> list[Html | None]:
    """The sections that are read off the analyses, what matters most first."""
    return [
        why_section(_rungs(sides, run), compared),
        waterfall_section(_rungs(sides, run)),
        stages_section(sides),
        ledger_section(sides),
        gaps_section(sides),
        overlap_section(sides),
        communication_section(sides),
        bandwidth_section(sides),
        counters_section(sides),
        iterations_section(sides),
        launches_section(sides),
        streams_section(sides),
        memory_section(sides),
        allocator_section(sides, _counters(run)),
    ]


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> Html:
    """Nothing may be fetched; only these very scripts may run. plotly styles its figures and exports them as images."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes) or "'none'"
    rules = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    return Html(f"{rules}; base-uri 'none'; form-action 'none'")


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


def _header(
    run: Run | None,
    sides: Sequence[Side],
    title: str,
    lines: Sequence[Line] | None,
    medians: dict[str, list[int]],
    found: Sequence[Speedup],
    judged: str,
    energies: Sequence[Drawn],
) -> Html:
    if run is None:
        by = ", ".join(dict.fromkeys(f"{s.analysis.meta.recorder} {s.analysis.meta.recorder_version}" for s in sides))
        what = "one trace" if len(sides) == 1 else f"{len(sides)} recordings compared"
        facts = f"{what}, recorded by {by}{'; nothing to compare with' if len(sides) == 1 else ''}" if sides else ""
    else:
        m = run.manifest
        by = f"recorded by {m.recorder}" if m.recorder else "timed without a recorder"
        facts = f"{m.run_id} · {m.created_utc} · profile {m.profile} · {by}"
    return element(
        "div",
        element("h1", title),
        element("p", facts, class_="subtitle"),
        [headline(s) for s in _of_rungs(found, run)[-1:]],
        summary(lines),
        element("p", judged, class_="note") if judged else None,
        element("p", ZERO, class_="note") if any(side.analysis.first_op_ns is not None for side in sides) else None,
        tiles(_rungs(sides, run), medians, _of_rungs(found, run), energies),
    )


def _contents(sections: Sequence[Html]) -> Html:
    """Links to the sections, read off their own headings."""
    links = []
    for part in sections:
        anchor = part.split(' id="', 1)[1].split('"', 1)[0]
        heading = part.split("</h2>", 1)[0].rsplit(">", 1)[1]
        links.append(element("li", element("a", Html(heading), href=f"#{anchor}")))
    return join(links)


def _counters(run: Run | None) -> dict[str, list[Allocator]]:
    out: dict[str, list[Allocator]] = {}
    for one in run.manifest.rounds if run else ():
        for result in one.result.variants:
            out.setdefault(result.name, []).append(result.allocator)
    return out


def _timeline(sides: Sequence[Side], traces: Mapping[str, Trace]) -> timeline.Section | None:
    """The timeline of those sides whose trace is at hand."""
    return timeline.section(
        [timeline.Shown(side.name, side.key, traces[side.key], side.analysis) for side in sides if side.key in traces]
    )
