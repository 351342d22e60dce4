"""Verdicts in words: the cells that every face shows, the table for a terminal, and the JSON of `check`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..expectations.judging.verdict import Verdict, counts, exit_code
from .console import GAP, NOTHING, display_width, escape, shorten, terminal_width
from .evidence import Judged

SCHEMA: Final = "aisp-trace/check/1"

_WIDTHS: Final = (12, 9, 18, 12, 9, 4)
"""Columns of the figures' line: below the verdict, value, interval, bound, margin, n; the source takes the rest."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One verdict's figures as text; ``-`` where there is none."""

    value: str
    interval: str
    bound: str
    margin: str
    n: str
    source: str


def cells(verdict: Verdict) -> Cells:
    """The figures of `verdict`, four significant digits, in the verdict's unit."""
    v = verdict
    interval = NOTHING if v.low is None or v.high is None else f"{_number(v.low)} .. {_number(v.high)}"
    margin = NOTHING if v.margin is None else f"{v.margin:+.3g}"
    bound = NOTHING if v.bound is None else str(v.bound)
    return Cells(_number(v.value), interval, bound, margin, str(v.n) if v.n else NOTHING, v.source.kind)


def verdict_table(verdicts: Iterable[Verdict], workload: str, width: int | None = None) -> str:
    """Two lines a verdict: the claim and what was judged, then its figures under their titles; one where nothing was measured
    because the bound is for another machine, another size or this very run.

    One line would hold the figures of the widest claims only on a terminal of 130 columns. A claim's id loses the
    `workload` it starts with, and what was judged its middle, until the line fits.
    """
    limit = terminal_width() if width is None else width
    lines = [_figures("verdict", Cells("value", "interval", "bound", "margin", "n", "bound from"))]
    for verdict in verdicts:
        head = f"{verdict.status:<{_WIDTHS[0]}}{GAP}{escape(verdict.claim.removeprefix(f'{workload}.'))}: "
        unit = "" if verdict.unit in ("ratio", "fraction", "count") else f" [{verdict.unit}]"
        quantity = shorten(escape(verdict.quantity + unit), max(limit - display_width(head), 16))
        lines.append(shorten(head + quantity, limit))
        if verdict.status != "unrecorded" or verdict.value is not None:
            lines.append(_figures("", cells(verdict)))
    return "\n".join(lines)


def sentences(verdicts: Iterable[Verdict]) -> list[str]:
    """One sentence for each verdict that is neither met nor exceeded; one for all claims of the same verdict and reason."""
    found: dict[tuple[str, str], list[Verdict]] = {}
    for v in verdicts:
        if v.status not in ("met", "exceeded"):
            found.setdefault((v.status, v.reason), []).append(v)
    return [f"{status}: {_about(alike)}: {reason}." for (status, reason), alike in found.items()]


def _about(alike: Sequence[Verdict]) -> str:
    """``pipeline.faster, speedup of b over a``; of several the ids alone, without the workload but for the first."""
    claims = list(dict.fromkeys(v.claim for v in alike))
    if len(claims) == 1:
        return f"{claims[0]}, {' and '.join(v.quantity for v in alike)}"
    workload = claims[0].partition(".")[0]
    return ", ".join([claims[0], *(claim.removeprefix(f"{workload}.") for claim in claims[1:])])


def document(judged: Judged) -> dict[str, Any]:
    """What ``aisp-trace check --json`` prints. Keys may be added, none changes its meaning."""
    evidence, expectations = judged.evidence, judged.expectations
    return {
        "schema": SCHEMA,
        "run": {
            "run_id": evidence.run_id,
            "workload": evidence.workload,
            "size": evidence.size,
            "hardware_key": evidence.hardware_key,
            "timed_by": evidence.timed,
        },
        "expectations": {
            "folder": str(expectations.folder),
            "chosen": expectations.chosen,
            "hardware_keys": [f.hardware_key for f in expectations.files],
        },
        "verdicts": [_verdict(v) for v in judged.verdicts],
        "counts": dict(counts(judged.verdicts)),
        "notes": list(judged.notes),
        "exit_code": exit_code(judged.verdicts),
    }


def _verdict(v: Verdict) -> dict[str, Any]:
    return {
        "claim": v.claim,
        "quantity": v.quantity,
        "variant": v.variant,
        "verdict": v.status,
        "reason": v.reason,
        "unit": v.unit,
        "value": v.value,
        "bound": None if v.bound is None else {"min": v.bound.minimum, "max": v.bound.maximum},
        "margin": v.margin,
        "n": v.n,
        "sample": v.sample or None,
        "interval": None if v.low is None else {"low": v.low, "high": v.high, "coverage": v.coverage},
        "expected_on": v.expected_on,
        "source": {"kind": v.source.kind, "run": v.source.run, "text": v.source.text},
    }


def _figures(first: str, c: Cells) -> str:
    texts: Sequence[str] = (first, c.value, c.interval, c.bound, c.margin, c.n)
    row = [f"{texts[0]:<{_WIDTHS[0]}}", *(f"{t:>{w}}" for t, w in zip(texts[1:], _WIDTHS[1:], strict=True)), c.source]
    return " ".join(row).rstrip()


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
