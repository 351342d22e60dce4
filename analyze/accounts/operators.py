"""Operators of PyTorch by name: how often they ran, how long they took by themselves, and what they launched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import distinct_values
from ...traces.stage_domain import OPERATORS
from ..attribution.attribute import Attributed
from ..attribution.launches import find_launches
from ..attribution.stages import Stages, find_stages, is_word
from ..attribution.steps import NOTHING
from ..result import SCHEMAS


def operator_table(a: Attributed) -> pl.DataFrame:
    """Table ``operators`` of those that begin within the limits of the window, those that take most by themselves first.

    `self_ns` is without nested operators, so it sums to the time that any was open, thread by thread; `sum_ns` is with them.
    `device_ns` and `ops` are what they launched, not what nested ones did; `outside_ns` is the part of `self_ns` of those that
    began while no stage was open on their thread. Empty for a trace without operators.
    """
    if not is_word(a.trace.ranges["domain"], OPERATORS).any():
        return pl.DataFrame(schema=SCHEMAS["operators"])
    found = find_stages(a.trace, domain=OPERATORS, end_ns=a.recorded[1])
    length = found.end_ns - found.start_ns
    own = length.copy()
    nested = np.flatnonzero(found.parent != NOTHING)
    np.subtract.at(own, found.parent[nested], length[nested])
    ops, device_ns = np.zeros((2, len(found)), np.int64)
    stage = find_launches(a.trace, a.calls, found, a.host_devices, across=False).stage
    launched = np.flatnonzero((stage >= 0) & ~a.trace.ops["device"].is_in(sorted(a.host_devices)).to_numpy())
    np.add.at(ops, stage[launched], 1)
    times = a.trace.ops[launched].select(pl.col("end_ns") - pl.col("start_ns")).to_series().to_numpy()
    np.add.at(device_ns, stage[launched], times)
    rows = np.flatnonzero((found.start_ns >= a.limits[0]) & (found.start_ns < a.limits[1]))
    words = distinct_values(found.names)
    code = found.names.to_physical().to_numpy()[rows]
    table = (
        pl.DataFrame(
            {
                "code": code,
                "sum_ns": length[rows],
                "self_ns": own[rows],
                "ops": ops[rows],
                "device_ns": device_ns[rows],
                "outside_ns": np.where(_in_a_stage(found, a.found)[rows], 0, own[rows]),
            }
        )
        .group_by("code")
        .agg(
            pl.len().cast(pl.Int64).alias("calls"), pl.col("sum_ns", "self_ns", "ops", "device_ns", "outside_ns").sum()
        )
    )
    return (
        table.with_columns(pl.Series("name", [words[c] for c in table["code"].to_list()], dtype=pl.String))
        .select(*SCHEMAS["operators"])
        .cast(pl.Schema(SCHEMAS["operators"]))
        .sort(["self_ns", "name"], descending=[True, False])
    )


def _in_a_stage(operators: Stages, stages: Stages) -> npt.NDArray[np.bool_]:
    """Whether a stage was open on its thread when each operator began."""
    inside = np.zeros(len(operators), bool)
    for thread, rows in operators.threads.items():
        if thread in stages.own:
            inside[rows] = stages.own[thread](operators.start_ns[rows]) != NOTHING
    return inside
