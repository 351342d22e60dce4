"""A job of ranks as JSON: what ``aisp-trace ranks --json`` prints. ``docs/json.md`` describes every key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from ...analyze.ranks.gather import Failed
from ...analyze.ranks.job import Job, by_category

SCHEMA: Final = "aisp-trace/ranks/1"

Json = dict[str, Any]


def document(job: Job, failed: Sequence[Failed]) -> Json:
    """The envelope: ``{schema, ranks[], missing, short, duplicates, failed, clocks, communicators, iterations, ...}``."""
    who = job.roster
    level, reasons = job.trust
    return {
        "schema": SCHEMA,
        "world_size": who.world_size,
        "ranks": job.ranks.to_dicts(),
        "missing": list(who.missing),
        "short": [{"rank": rank, "iterations": count, "usual": who.usual} for rank, count in who.short],
        "duplicates": [asdict(one) for one in who.duplicates],
        "failed": [asdict(one) for one in failed],
        "trust": {"level": level, "reasons": list(reasons)},
        "metrics": job.metrics,
        "clocks": {"residual_ns": job.clocks.residual_ns, "tied": len(job.clocks.fits)},
        "communicators": [
            {
                "group": one.group or None,
                "group_size": one.group_size or None,
                "ranks": [who.numbers[m] for m in one.members],
                "collectives": one.rows.shape[1],
                "kinds": sorted(set(one.what)),
                "residual_ns": one.residual_ns,
                "in_doubt": one.in_doubt,
            }
            for one in job.found
        ],
        "straggler": {
            "pattern": job.pattern.kind,
            "rank": job.pattern.rank,
            "late_iterations": job.pattern.late,
            "of_iterations": job.pattern.of,
            "by_rank": [{"rank": r, "times": n, "late_ns": ns} for r, n, ns in job.pattern.by_rank],
        },
        "iterations": [
            {
                "iteration": step.iteration,
                "start_ns": step.start_ns,
                "ns": step.ns,
                "last_rank": step.rank,
                "late_ns": step.late_ns,
                "lost_ns": step.lost_ns,
                "skew_ns": step.skew_ns,
                "collective": step.at,
                "collective_stage": step.stage_at,
                "causes": [asdict(cause) for cause in step.causes],
            }
            for step in job.steps
        ],
        "ledger": job.ledger.to_dicts(),
        "by_category_ns": by_category(job),
    }
