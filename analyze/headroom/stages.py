"""How long each stage lies on the critical path of a replay: what a prediction says stage by stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ..attribution.stages import Thread
from ..intervals import Ints
from .changes import Situation
from .replay import critical, replay


def stage_times(s: Situation) -> Mapping[str, float]:
    """Nanoseconds of an iteration's critical path by stage, the longest first, with the weights of the graph of `s`. They add up
    to an iteration and what lies between two.

    What leads to an operation is its stage's; on the host it is that of the thread when the call was recorded.
    """
    graph, time = s.graph, replay(s.graph)
    last = int(s.bounds.ends[np.argmax(time[s.bounds.ends])])
    edge, begins, ends = critical(graph, graph.weight, time, int(time[s.bounds.start[0]]), last)
    target = graph.target[edge]
    code = np.empty(len(edge), np.int64)
    device = ~graph.to_host[edge]
    code[device] = s.a.ops["stage"].to_numpy()[graph.of[target[device]]]
    host = np.flatnonzero(~device)
    code[host] = _on_host(s, graph.thread[graph.of[target[host]]], graph.time[target[host]])
    found: Counter[str] = Counter()
    for path, ns in zip(s.a.stages.path_of_code(code).tolist(), (ends - begins).tolist(), strict=True):
        found[s.a.stages.path_names[path]] += ns
    return {stage: ns / len(s.bounds) for stage, ns in found.most_common()}


def _on_host(s: Situation, thread: Ints, at: Ints) -> Ints:
    """The stage that each thread was in just before `at`."""
    code = np.empty(len(at), np.int64)
    states = s.a.host_states()
    for number in np.unique(thread).tolist():
        rows = np.flatnonzero(thread == number)
        rows = rows[np.argsort(at[rows], kind="stable")]
        instants, where = np.unique(at[rows], return_inverse=True)
        who: Thread = s.graph.threads[number]
        _, _, _, stage, _, _, _ = states.walk(who, False, instants - 1, instants)
        code[rows] = stage[where]
    return code
