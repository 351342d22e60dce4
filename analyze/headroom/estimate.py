"""How long an iteration would take after a change, and how far that may be trusted.

    graph of the trace --- host time times f ---> graph of the untraced program --- change ---> estimate
                      (replay gives the untraced median)                        (replay)

Recording slows the host down, so all of its time is scaled by one factor: the one with which the unchanged graph takes as long as
the untraced rounds did. Without such rounds f is 1, and the estimate is one of the traced program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ...traces.errors import InputError
from ..attribution.attribute import Attributed
from .changes import Changed, Situation, changed
from .graph import DEPENDENCY, GAP, LAUNCH, OWN, QUEUE, RETURN, Graph, build, class_medians
from .replay import replay

ESTIMATE, INDICATIVE, REFUSED = "estimate", "indicative", "refused"

TRUSTED: Final = 0.02
"""Structure error up to which an estimate is one; kernels that change make it `INDICATIVE`, as an error up to `DOUBTED` does."""

DOUBTED: Final = 0.05

FACTORS: Final = (0.0, 1.5)
"""Between these a factor for the host's time is looked for."""


@dataclass(frozen=True, slots=True)
class Base:
    """The unchanged program: `ns` is an iteration's mean, traced; `untraced_ns` that of the untraced rounds, if there are any.

    `factor` scales the host's time, null where none gives the untraced time. `structure_error` is how far a replay with all
    latencies at their classes' medians is from the trace.
    """

    situation: Situation
    ns: int
    untraced_ns: int | None
    factor: float | None
    structure_error: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """An iteration after one change or several, made one after the other; both times are null where it is refused.

    `at_most_ns` is what the gain ends at while kernels take as long as they did: the same with a host that takes no time.
    """

    changes: tuple[str, ...]
    estimate_ns: int | None
    at_most_ns: int | None
    grade: str
    assumes: tuple[str, ...]
    why: str = ""


def base_of(a: Attributed, link: Mapping[str, float], untraced_ns: int | None = None) -> Base:
    """What predictions start from. Raises `InputError` for a trace without steady iterations of a thread, or without GPU work."""
    steady = a.steady
    if steady is None or steady.found_by == "kernels":
        raise InputError("no iterations were found that a range names; --iterations REGEX names them")
    marks, found = [], a.found
    rows = np.flatnonzero(np.isin(found.start_ns, [one.start_ns for one in steady.steady]))[::-1]  # the first one stays
    columns = (column[rows].tolist() for column in (found.start_ns, found.end_ns, found.pid, found.tid))
    threads = {(start, end): (pid, tid) for start, end, pid, tid in zip(*columns, strict=True)}
    for one in steady.steady:
        thread = threads.get((one.start_ns, one.end_ns))
        if thread is not None:
            marks += [(one.start_ns, thread), (one.end_ns, thread)]
    graph = build(a, marks)
    if not marks or not (graph.begun >= 0).any():
        raise InputError("nothing of a GPU was recorded in the iterations; there is nothing to predict")
    bounds = list(zip(graph.marks[::2].tolist(), graph.marks[1::2].tolist(), strict=True))
    situation = Situation(a, graph, bounds, link)
    ns = iteration_ns(situation, graph)
    structure = iteration_ns(
        situation, replace(graph, weight=class_medians(a, graph, (LAUNCH, QUEUE, DEPENDENCY, RETURN)))
    )
    error = abs(structure - ns) / ns
    if untraced_ns is None:
        return Base(situation, ns, None, 1.0, error)
    return Base(situation, ns, untraced_ns, _factor(situation, untraced_ns), error)


def iteration_ns(situation: Situation, graph: Graph) -> int:
    """The mean length of the steady iterations in a replay of `graph`."""
    time = replay(graph)
    lengths = [int(time[graph.returned[end]] - time[graph.returned[start]]) for start, end in situation.bounds]
    return round(sum(lengths) / len(lengths))


def scaled(graph: Graph, factor: float) -> Graph:
    """`graph` with the host's own time times `factor`."""
    host = (graph.what == GAP) | (graph.what == OWN) | (graph.what == LAUNCH)
    return replace(graph, weight=np.where(host, np.rint(graph.weight * factor).astype(np.int64), graph.weight))


def _factor(situation: Situation, wanted: int) -> float | None:
    """The factor with which an iteration takes what is `wanted`; null where it takes longer without any host time, or less with
    half as much again."""
    low, high = FACTORS
    if iteration_ns(situation, scaled(situation.graph, low)) > wanted:
        return None
    if iteration_ns(situation, scaled(situation.graph, high)) < wanted:
        return None
    for _ in range(24):
        middle = (low + high) / 2
        if iteration_ns(situation, scaled(situation.graph, middle)) < wanted:
            low = middle
        else:
            high = middle
    return high


def predict(base: Base, changes: Sequence[str]) -> Prediction:
    """An iteration with all of `changes`, made one after the other. Raises `UsageError` for one that is not known."""
    factor = base.factor
    situation = replace(base.situation, graph=scaled(base.situation.graph, 1.0 if factor is None else factor))
    made: list[Changed] = []
    for said in changes:
        made.append(changed(said, situation))
        situation = replace(situation, graph=made[-1].graph)
    ns = iteration_ns(situation, situation.graph)
    told = tuple(one.assumes for one in made)
    why = _refusal(base)
    if why is not None:
        return Prediction(tuple(changes), None, None, REFUSED, told, why)
    least = min(_device_alone(situation), ns)
    sure = base.structure_error <= TRUSTED and not any(one.kernels for one in made)
    return Prediction(tuple(changes), ns, least, ESTIMATE if sure else INDICATIVE, told)


def _refusal(base: Base) -> str | None:
    """Why nothing can be predicted from `base`, or null."""
    if base.structure_error > DOUBTED:
        return f"with all latencies at their medians the trace replays {base.structure_error:.1%} off"
    if bool((base.situation.a.trace.ops["kind"] == "comm").any()):
        return "collectives wait for other ranks, which is not in this model yet"
    if base.factor is None:
        return "no scale of the host's time gives the untraced time: recording changed more than the host"
    return None


def _device_alone(situation: Situation) -> int:
    """An iteration if the host took no time at all: what the device's own order of work leaves."""
    graph = situation.graph
    host = np.isin(graph.what, (GAP, OWN, LAUNCH, RETURN))
    return iteration_ns(situation, replace(graph, weight=np.where(host, np.minimum(graph.weight, 0), graph.weight)))
