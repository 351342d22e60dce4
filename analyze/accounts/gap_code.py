"""Which operators and Python functions of torch.profiler the host ran during the longest gaps.

gap              |..................|          on the thread that the device waited for
load()        |-------------------------|
open()             |----|                      load() ran for what open() leaves of the gap
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.kineto.operators import FUNCTIONS
from ...traces.model import Trace
from ...traces.samples import Stretch
from ...traces.stage_domain import OPERATORS
from ..attribution.interruptions import Interrupted
from ..attribution.launches import Launches
from ..attribution.stages import Stages, find_stages, is_word
from ..attribution.steps import NOTHING, innermost
from ..attribution.window import Span
from ..result import SCHEMAS
from .gaps import SHOWN, longest

IN_A_FILE: Final = r"\(\d+\): "
"""Holds for functions of Python code, ``train.py(12): step``. Those in C count for their caller: ``<built-in method sleep>``."""

OF_TORCH: Final = r"^(.*/)?torch/"
"""Holds for functions of PyTorch, ``torch/nn/modules/module.py(1773): _call_impl``, which count for their caller, too."""


def gap_code(
    trace: Trace,
    stages: Stages,
    recorded: tuple[int, int],
    launches: Launches,
    spans: Sequence[Span],
    interrupted: Mapping[int, Interrupted],
    gaps: pl.DataFrame,
) -> pl.DataFrame:
    """Table ``gap_code``: of each domain that `stages` are not of, what was innermost longest, without what nests in it.

    A thread runs one of them at a time, so the rows of a gap and domain add up to no more than the gap.
    """
    present = [d for d in (OPERATORS, FUNCTIONS) if d != stages.domain and is_word(trace.ranges["domain"], d).any()]
    asked = list(longest(trace.ops, launches, spans, interrupted, gaps)) if present else []
    found: list[tuple[object, ...]] = []
    for domain in present:
        code = find_stages(trace, domain=domain, end_ns=recorded[1])
        listed = np.ones(len(code), bool)
        if domain == FUNCTIONS:
            names = code.names.cast(pl.String)
            listed = (names.str.contains(IN_A_FILE) & ~names.str.contains(OF_TORCH)).to_numpy()
        for device, gap in asked:
            rows = [(device, gap.start_ns, gap.end_ns, domain, *row) for row in _innermost(code, listed, gap)]
            found += rows[:SHOWN]
    return pl.DataFrame(found, schema=SCHEMAS["gap_code"], orient="row")


def _innermost(code: Stages, listed: npt.NDArray[np.bool_], gap: Stretch) -> Iterator[tuple[str, int]]:
    """(name, ns of the gap in which it was the innermost), longest first; what is not `listed` counts for what it nests in."""
    here = (code.pid == gap.pid) & (code.tid == gap.tid) & (code.start_ns < gap.end_ns) & (code.end_ns > gap.start_ns)
    rows = np.flatnonzero(here & listed)
    start, end = np.maximum(code.start_ns[rows], gap.start_ns), np.minimum(code.end_ns[rows], gap.end_ns)
    names = code.names.gather(rows).cast(pl.String)
    steps = innermost(start, end)
    row, ns = steps.value[:-1], np.diff(steps.at)
    table = pl.DataFrame({"name": names.gather(row[row != NOTHING]), "ns": ns[row != NOTHING]})
    table = table.group_by("name").agg(pl.col("ns").sum())
    yield from table.sort("ns", "name", descending=[True, False]).iter_rows()
