"""What `capture --decide` goes on for: the ratio claims written down for this machine, read with the standard library alone.

A GPU host need not have what reads expectations strictly; `check` will. Here a file that cannot be read is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..capture import host
from ..capture.plan import Goal, Plan
from ..expectations.deciding import DECIDING
from ..traces.documents import EXPECTATIONS, read
from ..traces.errors import InputError, UsageError

FASTER: Final = 1.0
"""What is decided where nothing is written down: whether a variant is faster at all."""

PACKAGE: Final = Path(__file__).resolve().parents[1] / "expectations"


def deciding(plan: Plan, budget_s: float | None) -> Plan:
    """`plan` with rounds until its ratio claims are decided, or `budget_s` seconds of rounds are spent.

    Raises `UsageError` where there is nothing to decide, `InputError` for claims that cannot be read.
    """
    if len(plan.variants) < 2:
        raise UsageError(f"--decide adds rounds until a speedup is decided, and {plan.workload} has one variant here")
    goals = tuple(_claimed(plan)) or _faster(plan)
    return replace(plan, rounds=DECIDING[-1], looks=DECIDING, goals=goals, budget_s=budget_s)


def _faster(plan: Plan) -> tuple[Goal, ...]:
    first, *others = plan.names
    words = f"{plan.workload}: {{}} faster than {first}"
    return tuple(Goal(words.format(name), first, name, FASTER, "mean", to_bound=True) for name in others)


def _claimed(plan: Plan) -> Iterator[Goal]:
    own = Path.cwd() / "expectations"
    key = host.hardware(plan.device).key
    file = (own if any(own.glob("expectations_*.json")) else PACKAGE) / f"expectations_{key}.json"
    document: Any = read(file, EXPECTATIONS) if file.is_file() else {}
    earlier = str(document.get("schema", "")).endswith("/1")
    try:
        for claim in document.get("claims", ()):
            if claim["type"] != "time" or (claim["workload"], claim["size"]) != (plan.workload, plan.size):
                continue
            if claim["variant"] in plan.names and claim["baseline"] in plan.names:
                statistic = claim.get("statistic") or ("median" if earlier else "mean")
                least = float(claim["ratio"]["min"])
                yield Goal(claim["id"], claim["baseline"], claim["variant"], least, statistic)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InputError(f"{file} cannot be read as claims ({exc!r}); see `aisp-trace expectations validate`") from exc
