"""What is written down for a capture: the claims on times that `--decide` goes on for, read with the standard library alone.

A file that cannot be read stops a capture before anything runs. A GPU host need not have what reads expectations strictly: there
only what goals need is read, and `check` says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..capture import host
from ..capture.plan import Goal, Plan
from ..expectations.deciding import DECIDING
from ..traces.documents import EXPECTATIONS, read
from ..traces.errors import InputError, UsageError
from ..traces.run import HARNESS

FASTER: Final = 1.0
"""What is decided where nothing is written down: whether a variant is faster at all."""

TO_DO: Final = "TO DO"
"""What a claim says that nobody has filled in (``expectations.claims.skeleton``)."""

ANY: Final = "any"
"""The hardware key of claims that hold on every machine (``expectations.model`` says it, which needs pydantic)."""

PROJECT_DIR: Final = "expectations"
"""As ``expectations.claims.load`` has it, which needs pydantic."""

PACKAGE: Final = Path(__file__).resolve().parents[1] / "expectations"


def deciding(plan: Plan, budget_s: float | None) -> Plan:
    """`plan` with rounds until its claims on times are decided, or `budget_s` seconds of rounds are spent.

    Raises `UsageError` where there is nothing to decide, `InputError` for claims that cannot be read.
    """
    if len(plan.variants) < 2:
        raise UsageError(f"--decide adds rounds until a speedup is decided, and {plan.workload} has one variant here")
    key = host.hardware(plan.device).key
    goals = tuple(_claimed(plan, key)) or _faster(plan)
    recorded = tuple(str(c.get("id")) for _, c in _claims(plan.workload, plan.size, key) if c["type"] != "time")
    return replace(plan, rounds=DECIDING[-1], looks=DECIDING, goals=goals, budget_s=budget_s, by_recording=recorded)


def refuse_unreadable(plans: Sequence[Plan]) -> None:
    """Raise what `expectations validate` says of the project's expectations where they are to judge a run of `plans`: nothing
    else would say it until `check`, after minutes of rounds that nothing can be made of."""
    own = Path.cwd() / PROJECT_DIR
    if all(plan.source == "command" for plan in plans) or not any(own.glob("expectations_*.json")):
        return
    try:
        from ..expectations.claims.load import load_expectations
    except ModuleNotFoundError:  # a GPU host without what reads them strictly: the rest is for `check`
        for plan in plans:
            is_claimed(plan.workload, plan.size, host.hardware(plan.device).key)
        return
    load_expectations(None, Path.cwd())


def is_claimed(workload: str, size: str | None, key: str) -> bool:
    """Whether anything is written down that a run of `workload` on machine `key` is judged by. Raises as `deciding` does."""
    return next(_claims(workload, size, key), None) is not None


def _faster(plan: Plan) -> tuple[Goal, ...]:
    first, *others = plan.names
    words = f"{plan.workload}: {{}} faster than {first}"
    return tuple(Goal(words.format(name), first, name, FASTER, "mean", to_bound=True) for name in others)


def _claimed(plan: Plan, key: str) -> Iterator[Goal]:
    for file, claim in _claims(plan.workload, plan.size, key):
        try:
            if claim["type"] != "time" or claim["variant"] not in plan.names or claim["baseline"] not in plan.names:
                continue
            then = claim.get("provenance") or {}
            measured = (claim.get("source") or {}).get("kind") == "measured"
            if measured and not plan.foreign and (then.get("harness") or 1) != HARNESS:
                continue  # `check` judges nothing by a bound that another harness measured
            known = then.get("timed_by")
            yield Goal(
                claim=claim["id"],
                baseline=claim["baseline"],
                variant=claim["variant"],
                minimum=float(claim["ratio"]["min"]),
                statistic=claim["statistic"],
                max_ms=_numbers(claim, "max_ms"),
                min_items_per_s=_numbers(claim, "min_items_per_s"),
                timed_by=None if known is None else str(known),
                judged=TO_DO not in f"{claim.get('why')} {(claim.get('source') or {}).get('text')}",
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise _unreadable(file, exc) from exc


def _claims(workload: str, size: str | None, key: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """(file, claim) of each claim on `workload` that machine `key` is judged by; a time claim has its statistic."""
    own = Path.cwd() / PROJECT_DIR
    folder = own if any(own.glob("expectations_*.json")) else PACKAGE
    for file in (folder / f"expectations_{name}.json" for name in (key, ANY)):
        document: Any = read(file, EXPECTATIONS) if file.is_file() else {}
        earlier = str(document.get("schema", "")).endswith("/1")
        try:
            for claim in document.get("claims", ()):
                timed = claim["type"] == "time"
                sizes = (size,) if timed else (size, None)
                if claim["workload"] == workload and (claim["size"] if timed else claim.get("size")) in sizes:
                    yield file, {**claim, "statistic": claim.get("statistic") or ("median" if earlier else "mean")}
        except (KeyError, TypeError, AttributeError) as exc:
            raise _unreadable(file, exc) from exc


def _numbers(claim: Mapping[str, Any], part: str) -> dict[str, float]:
    return {str(name): float(limit) for name, limit in (claim.get(part) or {}).items()}


def _unreadable(file: Path, exc: Exception) -> InputError:
    return InputError(f"{file} cannot be read as claims ({exc!r}); see `aisp-trace expectations validate`")
