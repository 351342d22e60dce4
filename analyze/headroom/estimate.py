"""How long an iteration would take after a change, and how far that may be trusted.

    graph of the trace --- host time times f ---> graph of the untraced program --- change ---> estimate
                      (replay gives the untraced median)                        (replay)

Recording slows the host down, so all of its time is scaled by one factor: the one with which the unchanged graph takes as long as
the untraced rounds did. Without such rounds f is 1, and the estimate is one of the traced program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ...traces.errors import InputError
from ..attribution.calls import LAZY_LOAD_NS, LOADS, MODULE
from ..words import percent
from .changes import ALL, Changed, Situation, Unknown, calls_in_iterations, changed
from .graph import COLLECTIVE, DEPENDENCY, GAP, LAUNCH, OWN, QUEUE, RETURN, Graph, class_medians
from .iterations import Model, static_share
from .rates import Rates
from .replay import replay

ESTIMATE, INDICATIVE, REFUSED = "estimate", "indicative", "refused"

TRUSTED: Final = 0.02
"""Structure error up to which an estimate is one; kernels that change make it `INDICATIVE`, as an error up to `DOUBTED` does."""

DOUBTED: Final = 0.05

HOST_SHARE: Final = 0.2
"""Of an estimate. Where more of it is the host's, seven predictions for small iterations on H200s were off by 20 to 90 %."""

APART: Final = 0.05
"""Standard error of the untraced rounds from which on an estimate is no more than `INDICATIVE`. From `SCATTERED` on it is
refused: twice that is what `INDICATIVE` promises."""

SCATTERED: Final = 0.1

BY_ITERATION: Final = ("graph", "copies:overlap", "syncs")
"""Changes that are about what an iteration begins and ends with: without iterations nothing can be said of them."""

UNNAMED: Final = "neither iterations nor stages were found, so that set-up would count as the host's time"
"""Why nothing is said of the host's time in a whole window of which no part has a name."""

NEAR: Final = 0.02
"""Of the untraced time: where the device sets the pace, recorded and untraced times differ by that much without a cause."""

FACTORS: Final = (0.0, 1.5)
"""Between these a factor for the host's time is looked for."""


@dataclass(frozen=True, slots=True)
class Base:
    """The unchanged program: `ns` is an iteration's mean, traced; `untraced_ns` that of the untraced rounds, if there are any.

    `factor` scales the host's time, null where none gives the untraced time. `structure_error` is how far a replay with all
    latencies at their classes' medians is from the trace. `whole`: no iterations were found, and the window is taken for one.
    `untraced_off` is the standard error of `untraced_ns` between processes, as a part of it. `rest` is the untraced over the
    replayed time where no factor gives it and both are within `NEAR`: the device's own difference, which no change removes.
    `lone_collectives` are those of which not every rank is in the trace for sure, `loading` is the part of the iterations that
    goes by loading modules or kernels.
    """

    situation: Situation
    ns: int
    untraced_ns: int | None
    factor: float | None
    structure_error: float
    whole: bool
    lone_collectives: int
    loading: float
    untraced_off: float | None = None
    rest: float = 1.0

    @property
    def refusal(self) -> str | None:
        """Why nothing can be predicted, or null."""
        if self.structure_error > DOUBTED:
            return _off(self.structure_error)
        if self.lone_collectives:
            return (
                f"{self.lone_collectives:,} collectives wait for ranks that are not in this trace; `aisp-trace ranks FOLDER` of "
                "all ranks' traces says what late ones cost, and a recording of all ranks in one trace can be replayed"
            )
        if self.untraced_off is not None and self.untraced_off > SCATTERED:
            return (
                f"the untraced rounds lie too far apart (standard error {percent(self.untraced_off)}); capture more rounds, on a "
                "quieter machine"
            )
        if self.factor is None:
            return "no scaling of host time reproduces the untraced time: recording slowed more than the host"
        return None

    @property
    def now_ns(self) -> int:
        """How long an iteration takes as it is: untraced, where that was measured."""
        return self.ns if self.untraced_ns is None else self.untraced_ns


@dataclass(frozen=True, slots=True)
class Prediction:
    """An iteration after one change or several, made one after the other; both times are null where it is refused.

    `at_most_ns` is what the gain ends at while kernels take as long as they did: the same with a host that takes no time. `why`
    says what it is refused for, or what makes it no more than indicative. `graph` is that of the changed program.
    """

    changes: tuple[str, ...]
    estimate_ns: int | None
    at_most_ns: int | None
    grade: str
    assumes: tuple[str, ...]
    why: str = ""
    graph: Graph | None = field(default=None, repr=False, compare=False)


def base_of(m: Model, rates: Rates, untraced_ns: int | None = None, untraced_off: float | None = None) -> Base:
    """What predictions start from. Raises `InputError` where nothing of a GPU is timed."""
    if not m.host:
        raise InputError(f"{m.why}; there is nothing to predict")
    situation = Situation(m.a, m.graph, m.host, m.bounds, rates, static_share(m))
    ns = iteration_ns(situation, m.graph)
    if ns <= 0:
        raise InputError("no iteration takes any time; there is nothing to predict")
    at_medians = class_medians(m.a, m.graph, (LAUNCH, QUEUE, DEPENDENCY, RETURN))
    error = abs(iteration_ns(situation, m.graph.reweighted(at_medians)) - ns) / ns
    factor, rest = (1.0, 1.0) if untraced_ns is None else _factor(situation, untraced_ns)
    lone, loading = _lone_collectives(m), _loading(situation, ns)
    return Base(situation, ns, untraced_ns, factor, error, m.found_by == "window", lone, loading, untraced_off, rest)


def _off(error: float) -> str:
    return f"a model of this trace is {percent(error, 0 if error >= 0.1 else 1)} off its own time"


def _loading(s: Situation, ns: int) -> float:
    """The part of the iterations that calls take which load modules, or launches that load their kernel first."""
    calls, inside = s.a.calls, s.graph.call[calls_in_iterations(s)]
    lasting = calls.end_ns[inside] - calls.start_ns[inside]
    kind = calls.kind[inside]
    loads = (kind == MODULE) | (LOADS[kind] & (lasting > LAZY_LOAD_NS))
    return float(lasting[loads].sum()) / (ns * len(s.bounds))


def _lone_collectives(m: Model) -> int:
    """Collectives between the first iteration's start and the last one's end that have no edge from another rank."""
    ops, graph = m.a.trace.ops, m.graph
    low, high = graph.time[m.bounds.start].min(), graph.time[m.bounds.ends].max()
    inside = (ops["end_ns"] > low) & (ops["start_ns"] < high) & (ops["kind"] == "comm")
    alone = inside.to_numpy().copy()
    alone[graph.of_target[graph.what == COLLECTIVE]] = False
    return int(alone.sum())


def iteration_ns(situation: Situation, graph: Graph) -> int:
    """The mean length of the iterations in a replay of `graph`."""
    return round(int(situation.bounds.lengths(replay(graph)).sum()) / len(situation.bounds))


def scaled(graph: Graph, factor: float) -> Graph:
    """`graph` with the host's own time times `factor`."""
    if factor == 1.0:
        return graph
    rows = np.flatnonzero(graph.leads(GAP, OWN, LAUNCH))
    weight = graph.weight.copy()
    weight[rows] = np.rint(weight[rows] * factor).astype(np.int64)
    return graph.reweighted(weight)


def _factor(situation: Situation, wanted: int) -> tuple[float | None, float]:
    """(the factor with which an iteration takes what is `wanted`, 1); where it takes longer without any host time, or less with
    half as much again: (1, what is left) if it takes nearly that as it is, else (null, 1)."""
    low, high = FACTORS
    longest, least = (iteration_ns(situation, scaled(situation.graph, factor)) for factor in (high, low))
    if not least <= wanted <= longest:
        as_is = iteration_ns(situation, situation.graph)
        return (1.0, wanted / as_is) if abs(as_is - wanted) <= NEAR * wanted else (None, 1.0)
    for _ in range(24):
        middle = (low + high) / 2
        if iteration_ns(situation, scaled(situation.graph, middle)) < wanted:
            low = middle
        else:
            high = middle
    return high, 1.0


def predict(base: Base, changes: Sequence[str]) -> Prediction:
    """An iteration with all of `changes`, made one after the other. Raises `UsageError` for one that is not known."""
    factor = base.factor
    situation = replace(base.situation, graph=scaled(base.situation.graph, 1.0 if factor is None else factor))
    made: list[Changed] = []
    why = base.refusal
    for said in changes:
        if base.whole and said.startswith(BY_ITERATION):
            why = why or "no iterations were found; --iterations REGEX names their ranges"
        if base.whole and said in ("host", f"host:{ALL}") and len(situation.a.stages) == 0:
            why = why or UNNAMED
        try:
            made.append(changed(said, situation))
        except Unknown as reason:
            why = why or str(reason)
        else:
            situation = replace(situation, graph=made[-1].graph)
    told = tuple(one.assumes for one in made)
    if why is not None:
        return Prediction(tuple(changes), None, None, REFUSED, told, why)
    ns = round(iteration_ns(situation, situation.graph) * base.rest)
    least = min(round(_device_alone(situation) * base.rest), ns)
    doubts = [one.doubt for one in made if one.doubt]
    if base.structure_error > TRUSTED:
        doubts.append(_off(base.structure_error))
    if base.loading > TRUSTED:
        doubts.append(f"{percent(base.loading, 0)} of the iterations go by loading kernels; warm up before recording")
    if ns - least > HOST_SHARE * ns:
        doubts.append(f"{percent(1 - least / ns, 0)} of it is the host's time, which differs from process to process")
    if base.untraced_off is not None and base.untraced_off > APART:
        doubts.append(f"the untraced rounds are far apart (standard error {percent(base.untraced_off)})")
    if base.whole:
        doubts.append("no iterations were found, and the whole window counts as one")
    return Prediction(
        tuple(changes), ns, least, INDICATIVE if doubts else ESTIMATE, told, "; ".join(doubts), situation.graph
    )


def _device_alone(situation: Situation) -> int:
    """An iteration if the host took no time at all: what the device's own order of work leaves."""
    graph = situation.graph
    host = graph.leads(GAP, OWN, LAUNCH, RETURN)
    return iteration_ns(situation, graph.reweighted(np.where(host, np.minimum(graph.weight, 0), graph.weight)))
