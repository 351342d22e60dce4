"""Two functions of the user's own, timed in one process by the rules that rounds of processes have: warmed up first, in
alternating order (A B, B A, ...), and with what they return compared.

A function that takes less than `LEAST_NS` is called several times a round, and the round's time is the mean. Nothing is
synchronised: a function that starts work on a GPU has to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

LEAST_NS: Final = 20_000_000
"""A round's least time a side: five time slices of Linux's scheduler, so that one lost slice is not the whole round, and still no
more than 4 s for 40 rounds of two sides that are warmed up."""

MOST_CALLS: Final = 1 << 17
"""Calls of a round at most, for functions that do next to nothing."""

Function = Callable[[], Any]
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class CalledRound:
    """One round: the order in which the functions ran, and nanoseconds of one call of each, at least 1."""

    order: tuple[str, ...]
    ns: Mapping[str, int]


def called_rounds(pair: Mapping[str, Function], clock: Clock) -> Iterator[CalledRound]:
    """Round after round, for as long as somebody asks, after a warm-up that finds how often to call each function."""
    calls = {name: _calls(function, clock) for name, function in pair.items()}
    order = tuple(pair)
    while True:
        ns = {name: max(1, round(_timed(pair[name], calls[name], clock) / calls[name])) for name in order}
        yield CalledRound(order, ns)
        order = order[::-1]


def differing(pair: Mapping[str, Function], same: Callable[[Any, Any], Any] | None) -> str:
    """How the results of the two functions differ, as a sentence; empty where they do not. `same` compares them (null: ``==``, of
    every element)."""
    (first, one), (second, other) = ((name, function()) for name, function in pair.items())
    try:
        alike = _alike(one, other) if same is None else bool(same(one, other))
    except Exception as error:  # whatever the user's types or `same` raise
        return f"the results cannot be compared ({type(error).__name__}: {_short(error)}); give same=FUNCTION"
    if alike:
        return ""
    return f"the results differ: {first} returned {_short(one)}, {second} returned {_short(other)}"


def _alike(one: Any, other: Any) -> bool:
    """Whether the two are equal; of arrays, series and frames, in every element."""
    if hasattr(one, "equals"):
        return bool(one.equals(other))
    equal = one == other
    return bool(equal.all() if hasattr(equal, "all") else equal)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _calls(function: Function, clock: Clock) -> int:
    """The least power of two of calls that take `LEAST_NS`."""
    calls = 1
    while calls < MOST_CALLS and _timed(function, calls, clock) < LEAST_NS:
        calls *= 2
    return calls


def _timed(function: Function, calls: int, clock: Clock) -> int:
    begun = clock()
    for _ in range(calls):
        function()
    return clock() - begun
