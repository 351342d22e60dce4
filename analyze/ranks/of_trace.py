"""The job in one trace: ranks of one host that were recorded together, in figures that a claim may name."""

from __future__ import annotations

import numpy as np
import polars as pl

from ...traces.model import KINDS
from ..attribution.attribute import Attributed
from ..result import SCHEMAS
from .job import job_of
from .make import ranks_in


def job_table(a: Attributed, ledger: pl.DataFrame) -> pl.DataFrame:
    """Table ``job``: one row where several GPUs communicated in the window, with `Job.metrics` and its trust; else none."""
    ops = a.in_window
    comm = np.unique(ops.device[ops.kind == KINDS.index("comm")]).tolist()
    if len(set(comm) - a.host_devices) < 2:
        return pl.DataFrame(schema=SCHEMAS["job"])
    job = job_of(ranks_in(a, ledger, a.trace.meta.file))
    level, reasons = job.trust
    return pl.DataFrame(
        [{"ranks": len(job.roster.ranks), **job.metrics, "trust": level, "reason": "; ".join(reasons)}],
        schema=SCHEMAS["job"],
    )
