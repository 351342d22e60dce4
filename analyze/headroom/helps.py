"""What would help: the known changes, tried one by one and one after the other, and how well the trace replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import polars as pl

from ...traces.errors import InputError, UsageError
from ..attribution.attribute import Attributed
from ..result import SCHEMAS
from .estimate import ESTIMATE, Base, Prediction, base_of, predict
from .iterations import Model, model
from .path import HOST
from .rates import Rates

ANYWHERE: Final = ("graph:iteration", "copies:overlap", "copies:pinned", "syncs", "allocator")
"""Changes that are tried on whole iterations of any trace."""

HOSTS: Final = 3
"""Stages whose host time is tried, those with most of it on the critical path."""

HOST_LEAST: Final = 0.05
"""The least share of the critical path for the host's time of a further stage to be tried."""

WORTH: Final = 0.01
"""Gains below this share of an iteration are not worth a line."""


ALIKE: Final = 0.05
"""Times that differ by less than this share are about the same: of them an estimate is more than what is indicative."""


MEANING: Final = (
    "gain: how many times as fast; at most: the same with a host that takes no time; with all above: on top of the changes "
    "listed above it. Kernels run as they did. An estimate is usually within 3 %, an indicative one within 20 %."
)
"""What the columns of a face mean."""


def modelled(a: Attributed) -> Model | str:
    """The model of `a`, or why there is none."""
    try:
        return model(a)
    except InputError as reason:
        return str(reason)


def headroom_tables(
    m: Model | str, critical: pl.DataFrame, rates: Rates, untraced_ns: int | None, untraced_off: float | None = None
) -> dict[str, pl.DataFrame]:
    """Table ``headroom``: changes in the order of `tried`; table ``replayed``: one row on what they were predicted from.

    `critical` is the table of that name. Where nothing can be predicted ``headroom`` is empty, and ``replayed`` says why.
    """
    base, why = None, m if isinstance(m, str) else m.why
    if not isinstance(m, str) and m.host:
        try:
            base = base_of(m, rates, untraced_ns, untraced_off)
        except InputError as reason:
            why = str(reason)
    if base is None or isinstance(m, str):
        return _tables((), [(None, 0, None, untraced_ns, None, None, None, why)])
    replayed = (
        m.found_by,
        len(m.host),
        base.ns,
        untraced_ns,
        base.factor,
        base.structure_error,
        base.situation.static,
        base.refusal or "",
    )
    if base.refusal is not None:
        return _tables((), [replayed])
    each = tried(base, critical)
    after = ladder(base, each)
    rows = [(" ".join(p.changes), p.estimate_ns, p.at_most_ns, after.get(p.changes), *_words(p)) for p in each]
    return _tables(rows, [replayed])


def tried(base: Base, critical: pl.DataFrame) -> list[Prediction]:
    """Every change that can be tried on `base`, each by itself, the shortest iteration first and what is refused last; what is
    indicative stands behind estimates of about the same time."""
    found = []
    for change in candidates(base, critical):
        with suppress(UsageError):  # a stage that has no range of this name: several were folded
            found.append(predict(base, [change]))
    return sorted(found, key=_rank)


def _rank(one: Prediction) -> tuple[bool, float]:
    if one.estimate_ns is None:
        return True, 0.0
    return False, one.estimate_ns * (1.0 if one.grade == ESTIMATE else 1 + ALIKE)


def candidates(base: Base, critical: pl.DataFrame) -> Iterator[str]:
    """`ANYWHERE`, collectives where there are any, and the host's time in the stages with most of it on the critical path."""
    yield from ANYWHERE
    if (base.situation.a.trace.ops["kind"] == "comm").any():
        yield "comm"
    host = critical.filter(pl.col("category") == HOST).group_by("stage").agg(pl.col("ns").sum())
    if base.whole and len(base.situation.a.stages) == 0:
        return  # all of the host's time, most of it set-up, is no gain to offer
    least = HOST_LEAST * int(critical["ns"].sum())
    rows = host.sort(["ns", "stage"], descending=[True, False]).head(HOSTS).select("stage", "ns").rows()
    for stage in [name for number, (name, ns) in enumerate(rows) if number == 0 or ns >= least] or ["(none)"]:
        if stage.startswith("(") or _is_iteration(base, stage):
            yield "host:iteration"  # what lies in no stage of its own cannot be told from the rest
            return
        yield f"host:{stage}"


def _is_iteration(base: Base, stage: str) -> bool:
    steady = base.situation.a.steady
    return steady is not None and stage == steady.path


def pays(base: Base, one: Prediction) -> bool:
    """Whether a change gains enough to be mentioned."""
    return one.estimate_ns is not None and base.now_ns - one.estimate_ns > WORTH * base.now_ns


def ladder(base: Base, each: Sequence[Prediction]) -> Mapping[tuple[str, ...], int]:
    """An iteration in ns after each change that pays and all before it; without those that the ones before leave nothing of."""
    after: dict[tuple[str, ...], int] = {}
    made: list[str] = []
    now = base.now_ns
    for one in each:
        if not pays(base, one):
            continue
        together = predict(base, [*made, *one.changes])
        if together.estimate_ns is not None and now - together.estimate_ns > WORTH * base.now_ns:
            made += one.changes
            after[one.changes] = now = together.estimate_ns
    return after


def now_of(replayed: Mapping[str, Any]) -> int:
    """How long an iteration takes as it is, by the row of table ``replayed``: untraced, where that was measured."""
    ns: int = replayed["base_ns"] if replayed["untraced_ns"] is None else replayed["untraced_ns"]
    return ns


NONE_PAYS: Final = (
    "none of the changes replayed here would save 1 % or more; other kernels and fewer page faults were not tried"
)
"""What is said where `paying` finds none."""


def paying(headroom: pl.DataFrame, now_ns: int) -> pl.DataFrame:
    """The rows of table ``headroom`` that gain enough to be mentioned, where an iteration takes `now_ns`."""
    return headroom.filter(pl.col("estimate_ns") < (1 - WORTH) * now_ns)


def _words(one: Prediction) -> tuple[str, str, str]:
    return one.grade, "; ".join(one.assumes), one.why


def _tables(headroom: Sequence[tuple[object, ...]], replayed: Sequence[tuple[object, ...]]) -> dict[str, pl.DataFrame]:
    return {
        "headroom": pl.DataFrame(headroom, schema=SCHEMAS["headroom"], orient="row"),
        "replayed": pl.DataFrame(replayed, schema=SCHEMAS["replayed"], orient="row"),
    }
