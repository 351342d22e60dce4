"""The heat maps of a job as data: rank by stage, and rank by iteration. Their size is bounded, whatever the job's."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...analyze.ranks.job import MATERIAL, Job

MOST_STAGES: Final = 40
"""Stages of the map, those that differ most: more rows are not read."""

MOST_ITERATIONS: Final = 300
"""Rows of the map; of longer recordings a row is several iterations, and shows the latest rank of each."""

MOST_CELLS: Final = 150_000
"""Cells that are drawn, the largest: 2.5 MB of page. The others are fainter than they can be seen beside these."""

Map = dict[str, Any]


def stage_map(job: Job) -> Map:
    """How much longer than the median rank each rank takes for a stage, communication left out; us an iteration."""
    numbers = list(job.roster.numbers)
    names: list[str] = job.stages["stage"].unique(maintain_order=True).to_list()
    place, column = {name: i for i, name in enumerate(names)}, {n: i for i, n in enumerate(numbers)}
    time = np.zeros((len(names), len(numbers)))
    for rank, stage, ns in job.stages.iter_rows():
        time[place[stage], column[rank]] = ns
    more = np.clip(time - np.median(time, axis=1, keepdims=True), 0, None) if time.size else time
    order = np.argsort(-more.max(axis=1, initial=0), kind="stable")[:MOST_STAGES]
    return _map(more[order], [names[i] for i in order.tolist()], [str(n) for n in numbers], "stage", "rank")


def late_map(job: Job) -> Map:
    """How late each rank was in each iteration, us; what is below two in a hundred of an iteration is left out."""
    late = job.late.late.astype(np.float64)
    usual = float(np.median([step.ns for step in job.steps])) if job.steps else 0.0
    late[late < MATERIAL * usual] = 0
    names = [str(step.iteration) for step in job.steps]
    each = -(-len(names) // MOST_ITERATIONS)
    if each > 1:
        first = np.arange(0, len(names), each)
        late = np.maximum.reduceat(late, first, axis=1)
        names = [f"{names[i]} to {names[min(i + each, len(names)) - 1]}" for i in first.tolist()]
    return _map(late.T, names, [str(n) for n in job.roster.numbers], "iteration", "rank")


def _map(values: npt.NDArray[np.float64], rows: list[str], columns: list[str], down: str, across: str) -> Map:
    us = np.rint(values / 1e3).astype(np.int64)
    row, column = np.nonzero(us)
    if len(row) > MOST_CELLS:
        keep = np.argpartition(-us[row, column], MOST_CELLS)[:MOST_CELLS]
        row, column = row[keep], column[keep]
    order = np.argsort(us[row, column], kind="stable")  # the largest are drawn last
    row, column = row[order], column[order]
    cells = np.stack([column, row, us[row, column]], axis=1).tolist()
    most = int(us.max()) if us.size else 0
    return {"rows": rows, "columns": columns, "down": down, "across": across, "most": max(most, 1), "cells": cells}
