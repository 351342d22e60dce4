"""From the options of a pair of the user's own commands to its plan."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..capture import plan as planning
from ..capture.pair import TIMINGS, pair_name, pair_variants
from ..capture.plan import Plan
from ..capture.recorders import choose_recorder
from ..traces.errors import RecorderError, UsageError
from ..workloads import catalog


class Options(Protocol):
    """What a pair takes of `capture`'s other options; `device` is settled."""

    @property
    def profile(self) -> str:
        """What to record."""
        ...

    @property
    def rounds(self) -> int:
        """Untraced processes of each variant."""
        ...

    @property
    def device(self) -> str:
        """cpu or cuda."""
        ...

    @property
    def recorder(self) -> str:
        """As asked."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds one process may take."""
        ...

    @property
    def nsys_args(self) -> Sequence[str]:
        """For nsys profile."""
        ...


def pair_plan(
    baseline: str, rungs: Sequence[str], optimized: str | None, name: str | None, timing: str, options: Options
) -> Plan:
    """The plan that runs the commands in the current folder; raises `UsageError` for what cannot be run."""
    if optimized is None:
        raise UsageError("--baseline was given without --optimized; a pair needs both, `capture -- CMD` records one")
    if timing not in TIMINGS:
        raise UsageError(f"timing {timing!r} does not exist; timings are {', '.join(TIMINGS)}")
    variants = pair_variants(baseline, rungs, optimized)
    workload = pair_name(name, variants, [entry.name for entry in catalog.CATALOG])
    try:
        recorder, notes = choose_recorder(
            options.recorder,
            profile=options.profile,
            device=options.device,
            nsys_args=options.nsys_args,
            foreign=True,
        )
    except RecorderError as exc:
        raise RecorderError(f"{exc}; or time the pair without recording it: --profile none") from exc
    return Plan(
        schema=planning.SCHEMA,
        workload=workload,
        source="pair",
        program=(),
        variants=variants,
        profile=options.profile,
        recorder=None if recorder is None else recorder.name,
        device=options.device,
        iterations=None,
        warmup=None,
        size=None,
        seed=None,
        rounds=options.rounds,
        process_per_variant=True,
        timeout_s=options.timeout_s,
        nsys_args=tuple(options.nsys_args),
        command_line=("aisp-trace", *sys.argv[1:]),
        notes=notes,
        timing=timing,
        folder=str(Path.cwd()),
    )
