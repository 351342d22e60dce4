"""Print how often verdicts on simulated rounds are wrong, and how often good runs are called inconclusive.

python -P benchmarks/verdicts.py            the tables of docs/verdicts.md, 10,000 runs a figure; half a minute
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aisp_trace.benchmarks.rounds import BROKEN, GOOD, LIMITS, MODELLED, Case, rates

ROUNDS: Final = (8, 12, 20)
HEADS: Final = ("false `met`", "false `missed`", "refused", "right `met`")


def tables() -> str:
    """All tables, in Markdown. A cell holds one figure for each of `ROUNDS`."""
    parts = [
        _table("rounds keep the assumptions", MODELLED),
        _table("one side drifts, steps or has two clocks", BROKEN),
        _table("rounds depend on each other", LIMITS),
        _good(),
    ]
    return "\n\n".join(parts)


def _table(title: str, cases: Sequence[Case]) -> str:
    return _markdown([title, *(f"{head}, %" for head in HEADS)], [[case.name, *cells(case)] for case in cases])


def cells(case: Case) -> tuple[str, ...]:
    """A row's figures, in the order of `HEADS`, in percent."""
    found = [rates(case, n) for n in ROUNDS]
    return (
        " · ".join(f"{100 * r.false_met:.2f}" for r in found),
        " · ".join(f"{100 * r.false_missed:.2f}" for r in found),
        " · ".join(f"{100 * r.refused:.0f}" for r in found),
        " · ".join(f"{100 * r.power:.0f}" for r in found),
    )


def _good() -> str:
    rows = [[case.name, " · ".join(f"{100 * (1 - rates(case, n).power):.0f}" for n in ROUNDS)] for case in GOOD]
    return _markdown(["noise of a good run", "inconclusive, %"], rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(tables())
