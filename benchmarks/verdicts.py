"""Print how often verdicts on simulated rounds and recordings are wrong, and how often they are given at all.

python -P benchmarks/verdicts.py            the tables of docs/verdicts.md, 10,000 runs a figure; twenty minutes on two cores
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from aisp_trace.benchmarks.power import (
    COUNTED,
    COUNTED_NOISES,
    GAINS,
    OTHER_NAMES,
    PLANS,
    ours,
    theirs,
)
from aisp_trace.benchmarks.recordings import (
    DOUBTFUL,
    EXPECTED,
    OLD,
    RECORDINGS,
    Wrong,
    old_wrong,
    wrong,
)
from aisp_trace.benchmarks.rounds import BROKEN, GOOD, LIMITS, MODELLED, Case, Rates, allowed, rates
from aisp_trace.expectations.deciding import DECIDING, error_of

ROUNDS: Final = (8, 12, 20, 40)
"""The last is `--decide`: up to 40, at its looks."""
HEADS: Final = ("false `met`", "false `missed`", "refused", "right `met`")


CASES: Final = (*MODELLED, *BROKEN, *LIMITS, *GOOD)

LOOKS: Final = (*((n,) for n in COUNTED), DECIDING)
"""The plans whose errors at the bound are counted one by one."""

ALARMS: Final = tuple(sorted({(noise, shared) for _, noise, shared in GAINS}, key=lambda case: case[::-1]))

SPREADS: Final = (*EXPECTED, *DOUBTFUL)


def tables() -> str:
    """All tables, in Markdown. A cell holds one figure for each of `ROUNDS`, or what the head of its column says."""
    with ProcessPoolExecutor() as pool:
        later = [(heads, [pool.submit(row, *args) for args in asked]) for heads, row, asked in ONE_BY_ONE]
        every = dict(pool.map(_simulated, [(i, n) for n in reversed(ROUNDS) for i in range(len(CASES))]))
        others = [_markdown(heads, [row.result() for row in rows]) for heads, rows in later]
    found = {case.name: [every[i, n] for n in ROUNDS] for i, case in enumerate(CASES)}
    parts = [
        _table("rounds keep the assumptions", MODELLED, found),
        _table("one side drifts, steps or has two clocks", BROKEN, found),
        _table("rounds depend on each other", LIMITS, found),
        _good(found),
        *others,
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


# --- tables whose rows are simulated one by one -----------------------------------------------------------------------

Row = tuple[str, ...]

PARTS: Final = ("met", "missed", "covered")
"""Of `Wrong`, in the order of a row."""


def gain_row(room: float, noise: float, shared: float) -> Row:
    """Shares of runs called faster than a bound `room` below the truth: ours for `PLANS`, others at 8, 20 and 40 rounds."""
    own = [ours(room, noise, looks, shared=shared) for looks in PLANS]
    others = ([theirs(name, room, noise, looks[-1], shared=shared).met for looks in PLANS] for name in OTHER_NAMES)
    return (
        gain_name(room, noise, shared),
        _joined([s.met for s in own], 1),
        f"{own[-1].rounds:.1f}",
        *(_joined(o, 1) for o in others),
    )


def alarm_row(noise: float, shared: float) -> Row:
    """Shares of runs called either way with the bound at the truth."""
    own = [ours(0.0, noise, looks, shared=shared) for looks in PLANS]
    others = ([theirs(name, 0.0, noise, looks[-1], shared=shared) for looks in PLANS] for name in OTHER_NAMES)
    return (gain_name(0.0, noise, shared), *(_joined([s.met + s.missed for s in said], 2) for said in (own, *others)))


def look_row(looks: tuple[int, ...]) -> Row:
    """What a plan states for a side, what chance allows `TRIALS` runs, and what came out for each of `COUNTED_NOISES`."""
    stated = error_of(looks)
    found = [ours(0.0, noise, looks) for noise in COUNTED_NOISES]
    shares = ([stated], [allowed(stated)], [s.met for s in found], [s.missed for s in found])
    return (look_name(looks), *(_joined(share, 2) for share in shares))


def recordings_row(spread: int) -> Row:
    """One of `SPREADS`, for each of `RECORDINGS`."""
    found = [wrong(SPREADS[spread], n) for n in RECORDINGS]
    return (SPREADS[spread].name, *(_joined([part(w, name) for w in found], 2) for name in PARTS))


def old_row(name: str) -> Row:
    """One of `OLD`."""
    found = old_wrong(name)
    return (name, *(_joined([part(found, of)], 2) for of in PARTS))


def part(found: Wrong, name: str) -> float:
    """One of `PARTS`."""
    return {"met": found.met, "missed": found.missed, "covered": found.covered}[name]


def gain_name(room: float, noise: float, shared: float) -> str:
    """``5 % room, 3.5 % noise``."""
    common = f", {100 * shared:g} % more in both sides" if shared else ""
    return f"{100 * room:g} % room, {100 * noise:g} % noise{common}"


def look_name(looks: tuple[int, ...]) -> str:
    """``one look, at 24 rounds``."""
    return "five looks, at 12 to 40 rounds (`--decide`)" if looks == DECIDING else f"one look, at {looks[0]} rounds"


OTHER_HEADS: Final = tuple(f"{name}, %" for name in OTHER_NAMES)

ONE_BY_ONE: Final[Sequence[tuple[Row, Callable[..., Row], Sequence[tuple[object, ...]]]]] = (
    (("gain beyond the bound", "ours: `met`, %", "rounds that --decide took", *OTHER_HEADS), gain_row, GAINS),
    (("exactly at the bound", "ours: `met` or `missed`, %", *OTHER_HEADS), alarm_row, ALARMS),
    (
        ("independent rounds", "stated, %", "chance allows, %", "false `met`, %", "false `missed`, %"),
        look_row,
        [(looks,) for looks in LOOKS],
    ),
    (
        ("recordings", "false `met`, %", "false `missed`, %", "covered, %"),
        recordings_row,
        [(i,) for i in range(len(SPREADS))],
    ),
    (
        ("iterations of one process", "false `met`, %", "false `missed`, %", "covered, %"),
        old_row,
        [(name,) for name in OLD],
    ),
)
"""(heads, what simulates a row, with what)."""


def _joined(shares: Sequence[float], places: int) -> str:
    return " · ".join(f"{100 * share:.{places}f}" for share in shares)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(tables())
