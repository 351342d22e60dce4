"""``docs/results.md``: what recorded runs measured, variant by variant, as Markdown. No figure on it is typed by hand.

    run, analyses, verdicts  ->  `Result`  ->  rows (`results_rows`)  ->  page

A variant that does not pay stays in its table and is called that; where the rounds disagree, the page says so instead of
giving a verdict that they do not carry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ...expectations.judging.energy import Drawn
from ...expectations.judging.judge import SLOWDOWN_LIMIT
from ...expectations.judging.judged import Judged
from ...expectations.judging.verdict import Verdict, counts
from ...traces.errors import UsageError
from ...traces.figures import significant
from ...traces.run import Manifest
from ...workloads import catalog
from ..ci.markdown import plain
from ..page import text
from ..page.markup import clip
from ..page.provenance import commit
from ..page.sides import stage_label
from .rows import Gain, Rate, Row, Spent, rows_of


@dataclass(frozen=True, slots=True)
class Result:
    """A run and what was judged of it; the analyses are those of its evidence."""

    manifest: Manifest
    judged: Judged

    @property
    def rows(self) -> list[Row]:
        """One row a variant; what a rung changes is the manifest's word, else the catalog's, else the one before it."""
        entry = catalog.known(self.manifest.workload)
        known = {} if entry is None else {k: v for k, v in entry.changes.items() if k in self.judged.evidence.variants}
        said = {v.name: v.changes for v in self.manifest.variants if v.changes is not None}
        return rows_of(self.judged.evidence, {**self.manifest.alternatives, **known, **said})


DECIDED: Final = ("met", "exceeded", "missed")
PAYS: Final = "pays"
DOES_NOT: Final = "**does not pay**"


def page(results: Sequence[Result]) -> str:
    """The whole page: how to read it, all pairs in one table, then a section for each workload and machine.

    Of several runs of one workload on one machine the tables show the one with the most variants, then with the most gains
    and steps that its rounds agree on, whatever they are, then of profile minimal, then the newest. The others have a line
    each. Raises `UsageError` for no run, or one that is given twice.
    """
    if not results:
        raise UsageError("no run was given; name the run folders whose results are to be shown")
    names = [r.manifest.run_id for r in results]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise UsageError(f"run {twice} was given twice; name each run once")
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(results, key=_place):
        groups.setdefault((result.manifest.workload, result.manifest.hardware.key), []).append(result)
    shown = [(_shown(group), group) for group in groups.values()]
    sections = [line for main, group in shown for line in _section(main, group)]
    overview = _overview([(main, _decided_most(group)) for main, group in shown])
    reading = [*_READING, *_energy_reading([row.drawn for main, _ in shown for row in main.rows if row.drawn])]
    return "\n".join([*_HEAD, *overview, "", *reading, "", *sections]).rstrip() + "\n"


def pays(gain: Gain | None) -> str:
    """What the rounds say of one change, in words that go no further than they do."""
    if gain is None:
        return text.ABSENT
    if gain.objections:
        return "cannot be compared (below)"
    n, low, high = gain.ratio.n, gain.ratio.low, gain.ratio.high
    if low is None or high is None:
        return f"{text.count(n, 'round')}, too few to tell"
    said = DOES_NOT if high <= 1 else PAYS if low > 1 else "no difference shown"
    if not gain.concerns:
        return said
    disagree = f"rounds disagree: {'; '.join(plain(c.text) for c in gain.concerns)}"
    faster = f"faster in {gain.faster} of {n}"
    return f"{said}; {disagree}" if said == DOES_NOT else f"{disagree}; {faster}"


def _place(result: Result) -> tuple[int, str, str, str, str]:
    m = result.manifest
    order = catalog.names()
    place = order.index(m.workload) if m.workload in order else len(order)
    return (place, m.workload, m.hardware.key, m.created_utc, m.run_id)


def _shown(group: Sequence[Result]) -> Result:
    return max(reversed(group), key=lambda r: (len(r.rows), _agreed(r), r.manifest.profile == "minimal"))


def _agreed(result: Result) -> int:
    """How many gains and steps of a run its rounds agree on."""
    gains = [gain for row in result.rows for gain in (row.overall, row.step) if gain is not None]
    return sum(not (gain.concerns or gain.objections) for gain in gains)


def _decided_most(group: Sequence[Result]) -> Result:
    """The newest of the runs that decided the most bounds, for or against; none judges the run it came from."""
    return max(reversed(group), key=lambda r: sum(v.status in DECIDED for v in r.judged.verdicts))


_HEAD: Final = (
    "# Results",
    "",
    "What the case studies measured, rungs that do not pay included. Made by `scripts/results.py` from the runs that are",
    "named; no figure is typed by hand.",
    "",
)

_READING: Final = (
    "## How to read it",
    "",
    "- **Times** come from untraced rounds, each a fresh process: the median of the rounds' medians.",
    "- **Gains** compare times of the same round and take the median over the rounds, with the interval of `check`: exact, at",
    "  least 99 %, from 8 rounds on, or 12 with `--decide`. `step` compares with the variant named in its cell, of which the",
    "  rung is one change.",
    "- **pays**: the step's interval lies above 1. **does not pay**: at or below 1. *no difference shown*: 1 lies inside.",
    "  *rounds disagree*: they drift, spread or fall into two groups, so no step counts as paying, whatever its interval.",
    "- **Shares** are medians over the traced iterations, summed over devices, as in claims. Time between iterations (a reset",
    "  of weights or caches) is in none. Recording costs time of its own (`traced / untraced`).",
    "- **hidden** is the part of all copy time under kernels, or of communication under compute; *exposed* is the rest, as a",
    "  share of the iteration.",
    "- **rate** is all bytes of a direction over the sum of its copies' durations, and as a share of the calibrated link.",
    "  Through pageable memory it is *effective* and says nothing about the link.",
    "- **idle** is the device's; *idle, host* is the part that the host causes (docs/definitions/ledger.md).",
    "- **busiest kind** is how much of an iteration that kind fills alone: no arrangement of the same operations is faster.",
    "- **claims** compare with bounds that were written down before (docs/verdicts.md). A bound is *unrecorded* for the run",
    "  it was measured in. The first table counts those of the run that decided most, for or against.",
    "- Of several runs of a case on one machine, the tables show the one with the most variants, then with the most gains and",
    "  steps that its rounds agree on, then of profile `minimal`, then the newest. The others have a line each.",
    f"- `{text.ABSENT}` was not measured in that run, or cannot be known; a line below the tables says why. It never means 0.",
)

_ENERGY: Final = (
    "- **energy** and **SM clock** cover the untraced rounds from the first timed iteration to the last. That includes fresh",
    "  inputs, checks of outputs and idle power between iterations, so a short iteration seems to take more than it does.",
)

_ENERGY_PASS: Final = (
    "- **energy** comes from untraced rounds: iterations back to back on one draw of inputs, after the timed ones, including L2",
    "  flush and reset where the workload has them. **SM clock** covers the first timed iteration to the last.",
)

_OLDER: Final = (
    "  For older runs energy covers the first timed iteration to the last, with fresh inputs, checks of outputs and idle power",
    "  between iterations, so a short iteration seems to take more than it does.",
)


def _energy_reading(drawn: Sequence[Drawn]) -> Sequence[str]:
    """What energy and clock are of, in as many words as the shown rows need."""
    told = [row for row in drawn if row.joules_per_item is not None]
    if not any(row.repeated for row in told):
        return _ENERGY if drawn else ()
    return _ENERGY_PASS if all(row.repeated for row in told) else (*_ENERGY_PASS, *_OLDER)


def _overview(shown: Sequence[tuple[Result, Result]]) -> list[str]:
    """A row for each pair: figures of the first run, claims of the second."""
    heads = ("workload", "hardware", "baseline → optimized", "gain", "hidden", "allocator stall", "steps", "claims")
    out = [_line(heads), _line(["---", "---", "--:", "--:", "--:", "--:", "---", "---"])]
    for result, judged in shown:
        rows = {row.variant: row for row in result.rows}
        first = next(iter(rows.values()))
        best = rows.get("optimized", list(rows.values())[-1])
        cells = (
            _name(result.manifest.workload),
            _name(result.manifest.hardware.key),
            " → ".join(text.duration(row.time_ns) for row in ((first, best) if best is not first else (first,))),
            f"{_ratio(best.overall)}{_doubt(best.overall)}",
            _change(first, best, _hidden),
            _change(first, best, lambda spent: text.share(spent.allocator)),
            _steps(list(rows.values())),
            _verdict(judged.judged.verdicts),
        )
        out.append(_line(cells))
    return out


def _change(first: Row, best: Row, figure: Callable[[Spent], str]) -> str:
    """``0 % → 92.1 %``; once where both are the same."""
    ends = [text.ABSENT if row.spent is None else figure(row.spent) for row in (first, best)]
    return " → ".join(dict.fromkeys(ends))


def _hidden(spent: Spent) -> str:
    """Of communication where there is any, else of copies."""
    if spent.comm:
        return f"{text.share(spent.hidden_comm)} of comm"
    return "no copies" if spent.copies is False else text.share(spent.hidden_copies)


def _steps(rows: Sequence[Row]) -> str:
    """``3 of 5 pay, 1 does not, 1 open`` of the variants that change another."""
    words = [pays(row.step) for row in rows if row.step is not None]
    yes, no = words.count(PAYS), sum(word.startswith(DOES_NOT) for word in words)
    open_ = len(words) - yes - no
    does_not = f"{no} {'does' if no == 1 else 'do'} not" if no else ""
    parts = [f"{yes} of {len(words)} pay", does_not, f"{open_} open" if open_ else ""]
    return ", ".join(p for p in parts if p) if words else text.ABSENT


def _section(main: Result, group: Sequence[Result]) -> list[str]:
    m, rows = main.manifest, main.rows
    entry = catalog.known(m.workload)
    title = f"{_name(m.workload)}: {entry.title}" if entry else _name(m.workload)
    out = [f"## {title} ({_name(m.hardware.key)})", ""]
    out += [f"Proves that {entry.proves}.", ""] if entry else []
    out += [_provenance(m), ""]
    out += [*_speed(rows), "", *_spent(rows), ""]
    out += [f"- {line}" for line in (*_described(m), *_held(m), *_verdicts(main), *_cautions(rows))]
    out += [f"- note: {plain(note)}." for note in (*m.notes, *main.judged.evidence.notes)]
    out += [f"- another run: {_other(result)}" for result in group if result is not main]
    return [*out, ""]


def _provenance(m: Manifest) -> str:
    h = m.hardware
    gpus = ", ".join(f"{h.gpus.count(g)} × {g}" for g in dict.fromkeys(h.gpus)) or h.cpu
    versions = [f"driver {h.driver}"] if h.driver else []
    versions += [f"torch {m.packages['torch']}"] if "torch" in m.packages else []
    recorders = {f"{v.recording.recorder} {v.recording.recorder_version}" for v in m.variants if v.recording}
    count = len({r.index for r in m.rounds} | {c.index for c in m.commands})
    facts = [
        f"Run {_name(m.run_id)}",
        plain(f"{m.created_utc[:10]}, {gpus}"),
        plain(", ".join([*versions, *(sorted(recorders) or ["no recorder"])])),
        f"profile {_name(m.profile)}",
        text.count(count, "round") + (f" of {text.count(m.iterations, 'iteration')}" if m.iterations else ""),
        f"size {_name(m.size)}" if m.size else "",
        f"commit {plain(commit(m.git))}",
    ]
    return "; ".join(f for f in facts if f) + "."


def _speed(rows: Sequence[Row]) -> list[str]:
    """Energy and clock have a column where somebody read them."""
    extra: list[tuple[str, list[str]]] = []
    if any(row.drawn and row.drawn.joules_per_item is not None for row in rows):
        unit = next(row.drawn.unit for row in rows if row.drawn and row.drawn.joules_per_item is not None)
        energies = [text.joules(row.drawn.joules_per_item if row.drawn else None) for row in rows]
        extra.append((f"energy, one of the {plain(unit)}", energies))
    if any(row.drawn and row.drawn.mhz is not None for row in rows):
        clocks = [f"{row.drawn.mhz:,.0f} MHz" if row.drawn and row.drawn.mhz else text.ABSENT for row in rows]
        extra.append(("SM clock", clocks))
    heads = ("variant", "iteration", *(head for head, _ in extra), "gain", "step", "does the step pay?")
    out = [_line(heads), _line(["---", "--:", *("--:" for _ in extra), "--:", "--:", "---"])]
    for i, row in enumerate(rows):
        step = text.ABSENT if row.step is None else f"{_ratio(row.step)} over {_name(row.step.over)}"
        said = "baseline" if row is rows[0] and len(rows) > 1 else pays(row.step)
        more = [values[i] for _, values in extra]
        out.append(_line((_name(row.variant), text.duration(row.time_ns), *more, _ratio(row.overall), step, said)))
    return out


def _spent(rows: Sequence[Row]) -> list[str]:
    comm = any(row.spent is not None and row.spent.comm for row in rows)
    heads = [
        "variant",
        "copies hidden",
        "copies exposed",
        "copies' rate",
        *(["comm hidden", "comm exposed"] if comm else []),
        "allocator stall",
    ]
    heads += [
        "idle",
        "idle, host",
        "largest idle cause",
        "busiest kind",
        "largest part of the iterations",
        "traced / untraced",
    ]
    out = [_line(heads), _line(["---", *["--:"] * (len(heads) - 5), "---", "---", "---", "--:"])]
    for row in rows:
        slower = text.ABSENT if row.tracing is None else f"{row.tracing:.2f} ×"
        cells = [text.ABSENT] * (len(heads) - 2) if row.spent is None else _cells(row.spent, comm)
        out.append(_line([_name(row.variant), *cells, slower]))
    return out


def _cells(s: Spent, comm: bool) -> list[str]:
    hidden = ["no copies", text.ABSENT]
    copies = [
        *(hidden if s.copies is False else [text.share(s.hidden_copies), text.share(s.exposed_copies)]),
        "; ".join(_rate(rate) for rate in s.rates) or text.ABSENT,
    ]
    none = s.comm is False
    talk = ["no comm", text.ABSENT] if none else [text.share(s.hidden_comm), text.share(s.exposed_comm)]
    part = s.largest
    where = text.ABSENT
    if part is not None:
        what = f"{part.category}, {_name(part.cause)}," if part.cause else part.category
        where = f"{text.share(part.share)} {what} in {_name(stage_label(part.stage))}"
    several = len(s.busiest) > 1
    busiest = "; ".join(
        f"{f'{device}: ' if several else ''}{b.kind}, {text.share(1 / b.ratio)}" for device, b in s.busiest if b.ratio
    )
    return [
        *copies,
        *(talk if comm else []),
        text.share(s.allocator),
        text.share(s.idle),
        text.share(s.idle_host),
        _name(s.idle_cause) if s.idle_cause else text.ABSENT,
        busiest or text.ABSENT,
        where,
    ]


def _rate(rate: Rate) -> str:
    """``h2d 51.5 GB/s, 93.0 % of the link``."""
    of = f", {text.share(rate.share)} of the link" if rate.share is not None else ""
    return f"{rate.kind} {significant(rate.gb_per_s, 3)} GB/s{of}{' (effective)' if rate.effective else ''}"


def _described(m: Manifest) -> list[str]:
    return [f"{_name(v.name)}: {plain(clip(v.description, 300))}." for v in m.variants if v.description]


def _held(m: Manifest) -> list[str]:
    """What torch's allocator held of the device's memory after the measured iterations.

    The least of any round: the first variant of a process may have been left some by what made the inputs.
    """
    found: dict[str, list[int]] = {}
    for v in (v for r in m.rounds for v in r.result.variants):
        if held := v.allocator.reserved_bytes_after:
            found.setdefault(v.name, []).append(held)
    sizes = ", ".join(f"{_name(v.name)} {text.size(min(found[v.name]))}" for v in m.variants if v.name in found)
    return [f"device memory that torch held after the iterations: {sizes}."] if sizes else []


def _verdicts(result: Result) -> list[str]:
    found = result.judged.verdicts
    if not found:
        return ["claims: none is written down for this workload."]
    runs = list(dict.fromkeys(run for v in found if v.status in DECIDED for run in v.source.runs))
    judged = ", ".join(_name(run) for run in runs)
    by = f"; measured bounds were accepted from {judged}" if judged else ""
    own = sum(v.status == "unrecorded" and result.manifest.run_id in v.source.runs for v in found)
    source = f"; {text.count(own, 'bound')} measured in this run, to judge later ones" if own else ""
    lines = [f"claims: {_verdict(found)}{by}{source}."]
    different = [v for v in found if v.status not in ("met", "exceeded", "unrecorded")]
    return lines + [f"{v.status}: {plain(v.claim)}, {plain(v.quantity)}: {plain(v.reason)}." for v in different]


def _cautions(rows: Sequence[Row]) -> list[str]:
    """What is not fully trusted, each reason once with what it is about; then why variants cannot be compared."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        for metric, level, reason in () if row.spent is None else row.spent.doubts:
            found.setdefault((level, reason), {}).setdefault(row.variant, []).append(metric)
    lead = {"unavailable": "cannot tell"}
    out = []
    for (level, reason), variants in found.items():
        metrics = dict.fromkeys(metric for ones in variants.values() for metric in ones)
        about = f"{', '.join(map(plain, metrics))} of {', '.join(map(_name, variants))}"
        out.append(f"{lead.get(level, 'with care')}, {about}: {plain(reason)}.")
    slow = [f"{_name(r.variant)} {r.tracing:.2f} ×" for r in rows if r.tracing and r.tracing > SLOWDOWN_LIMIT]
    if slow:
        out.append(f"with care, shares of the window: recording made iterations longer ({', '.join(slow)}).")
    against = dict.fromkeys(o for row in rows for g in (row.overall, row.step) if g is not None for o in g.objections)
    return out + [f"cannot be compared: {plain(sentence)}." for sentence in against]


def _other(result: Result) -> str:
    m = result.manifest
    gains = [f"{_name(r.variant)} {_ratio(r.overall)}{_doubt(r.overall)}" for r in result.rows if r.overall is not None]
    count = text.count(len({r.index for r in m.rounds} | {c.index for c in m.commands}), "round")
    lead = f"{_name(m.run_id)}, profile {_name(m.profile)}, {count}"
    return f"{lead}: {', '.join(gains) or 'nothing to compare'}; claims: {_verdict(result.judged.verdicts)}."


def _doubt(gain: Gain | None) -> str:
    if gain is None or not (gain.concerns or gain.objections):
        return ""
    return " (cannot be compared)" if gain.objections else " (rounds disagree)"


def _verdict(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts(verdicts).items() if n) or "none"


def _ratio(gain: Gain | None) -> str:
    """``9.93 × (9.56 to 10.34)``; at least three digits behind what distinguishes it from 1."""
    if gain is None:
        return text.ABSENT
    e = gain.ratio
    ends = "" if e.low is None or e.high is None else f" ({_digits(e.low)} to {_digits(e.high)})"
    return f"{_digits(e.value)} ×{ends}"


def _digits(value: float) -> str:
    return f"{value:,.3f}" if value < 2 else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


_SAFE: Final = re.compile(r"[A-Za-z0-9_./\-]{1,80}")


def _name(name: str) -> str:
    """A name as code where it is one plain word, else as text that nothing obeys."""
    return f"`{name}`" if _SAFE.fullmatch(name) else plain(clip(name, 80))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
