"""A job in figures that a claim may name: of the ranks that one trace holds, or of traces that were recorded rank by rank."""

from __future__ import annotations

import numpy as np
import polars as pl

from ...traces.model import KINDS
from ..attribution.attribute import Attributed
from ..result import SCHEMAS
from .job import Job, job_of
from .make import ranks_in
from .roster import listed


def job_table(a: Attributed, ledger: pl.DataFrame) -> pl.DataFrame:
    """Table ``job`` of one trace: a row where several GPUs communicated in the window; else none."""
    ops = a.in_window
    comm = np.unique(ops.device[ops.kind == KINDS.index("comm")]).tolist()
    if len(set(comm) - a.host_devices) < 2:
        return pl.DataFrame(schema=SCHEMAS["job"])
    return job_row(job_of(ranks_in(a, ledger, a.trace.meta.file)))


def job_row(job: Job) -> pl.DataFrame:
    """Table ``job`` of `job`: `Job.metrics`, and how far they can be trusted."""
    level, reasons = job.trust
    facts = {"ranks": len(job.roster.ranks), "iterations": len(job.steps), "missing": listed(job.roster.missing)}
    return pl.DataFrame([{**facts, **job.metrics, "trust": level, "reason": "; ".join(reasons)}], schema=SCHEMAS["job"])


def alone_row(rank: int, ranks: int) -> pl.DataFrame:
    """Table ``job`` of one rank's trace by itself: of its job it says nothing."""
    reason = f"rank {rank} of {ranks} alone; give the folder that holds the runs of all ranks"
    return pl.DataFrame([{"ranks": 1, "trust": "alone", "reason": reason}], schema=SCHEMAS["job"])
