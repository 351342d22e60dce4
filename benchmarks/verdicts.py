"""Print how often verdicts on simulated rounds are wrong, and how often good runs are called inconclusive.

python -P benchmarks/verdicts.py            the tables of docs/verdicts.md, 10,000 runs a figure; ten minutes on two cores
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from aisp_trace.benchmarks.rounds import BROKEN, GOOD, LIMITS, MODELLED, Case, Rates, rates

ROUNDS: Final = (8, 12, 20, 40)
"""The last is `--decide`: up to 40, at its looks."""
HEADS: Final = ("false `met`", "false `missed`", "refused", "right `met`")


CASES: Final = (*MODELLED, *BROKEN, *LIMITS, *GOOD)


def tables() -> str:
    """All tables, in Markdown. A cell holds one figure for each of `ROUNDS`."""
    with ProcessPoolExecutor() as pool:
        every = dict(pool.map(_simulated, [(i, n) for n in reversed(ROUNDS) for i in range(len(CASES))]))
    found = {case.name: [every[i, n] for n in ROUNDS] for i, case in enumerate(CASES)}
    parts = [
        _table("rounds keep the assumptions", MODELLED, found),
        _table("one side drifts, steps or has two clocks", BROKEN, found),
        _table("rounds depend on each other", LIMITS, found),
        _good(found),
    ]
    return "\n\n".join(parts)


def _simulated(asked: tuple[int, int]) -> tuple[tuple[int, int], Rates]:
    return asked, rates(CASES[asked[0]], asked[1])


def _table(title: str, cases: Sequence[Case], found: Mapping[str, Sequence[Rates]]) -> str:
    rows = [[case.name, *cells(found[case.name])] for case in cases]
    return _markdown([title, *(f"{head}, %" for head in HEADS)], rows)


def cells(found: Sequence[Rates]) -> tuple[str, ...]:
    """A row's figures, in the order of `HEADS`, in percent."""
    return (
        " · ".join(f"{100 * r.false_met:.2f}" for r in found),
        " · ".join(f"{100 * r.false_missed:.2f}" for r in found),
        " · ".join(f"{100 * r.refused:.0f}" for r in found),
        " · ".join(f"{100 * r.power:.0f}" for r in found),
    )


def _good(every: Mapping[str, Sequence[Rates]]) -> str:
    heads = ["noise of a good run", "inconclusive, %", "rounds that --decide took"]
    rows = []
    for case in GOOD:
        found = every[case.name]
        rows.append([case.name, " · ".join(f"{100 * (1 - r.power):.0f}" for r in found), f"{found[-1].rounds:.1f}"])
    return _markdown(heads, rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(tables())
