"""Two functions or two commands of a test, from what it asks for to verdicts: timed by `capture`, judged as `check` judges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Final

from ..capture import host
from ..capture.callables import CalledRound, called_rounds, differing
from ..capture.plan import Goal, check_plan
from ..expectations.claims.load import load_expectations
from ..expectations.deciding import DECIDING
from ..expectations.judging.commands import Stated
from ..expectations.judging.evidence import Evidence, RoundTimes, VariantEvidence
from ..expectations.judging.judge import judge
from ..expectations.judging.judged import evidence_of
from ..expectations.judging.validity import beforehand
from ..expectations.judging.verdict import Verdict
from ..expectations.model import ANY, Bound, ExpectationFile, Source, TimeClaim
from ..traces.errors import UsageError
from ..traces.hardware_key import slug
from ..traces.run import OPTIMIZED, load_run
from .every import capture_each
from .plans import Options, pair_plan

BASELINE: Final = "baseline"
TIMEOUT_S: Final = 900.0
"""Seconds that one command may take, as for `capture`."""

Files = tuple[ExpectationFile, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a test asks: `at_least` or claims in `expectations`, about the workload `name`; `folder` keeps what commands leave."""

    name: str
    at_least: float | None
    expectations: Path | None
    rounds: int | None
    budget_s: float
    same: Callable[[Any, Any], Any] | None
    clock: Callable[[], int]
    folder: Path

    @property
    def workload(self) -> str:
        """`name` as expectations can have it."""
        return slug(self.name)[:64] or "test"


def judge_pair(baseline: Any, optimized: Any, asked: Asked) -> tuple[Verdict, ...]:
    """The verdicts on two functions, or two command lines.

    Raises `UsageError` where they are neither, or the test asks for nothing or for both a bound and claims.
    """
    if (asked.at_least is None) == (asked.expectations is None):
        raise UsageError("speedup needs a bound: at_least=1.2, or expectations=FOLDER with claims; give one of them")
    least: Any = asked.at_least
    if isinstance(least, str | Path):
        raise UsageError(f"at_least is {str(least)!r}; it is a factor such as 1.2, and a folder is expectations=FOLDER")
    if least is not None and not _is_factor(least):
        raise UsageError(f"at_least is {least!r}; it must be a factor above 0, such as 1.2")
    if asked.rounds is not None and asked.rounds < 1:
        raise UsageError(f"rounds is {asked.rounds}; at least one is needed, and 8 for a verdict")
    if isinstance(baseline, str) and isinstance(optimized, str):
        return _of_commands(baseline, optimized, asked)
    if callable(baseline) and callable(optimized):
        return _of_functions({BASELINE: baseline, OPTIMIZED: optimized}, asked)
    raise UsageError("speedup takes two functions without arguments, or two command lines as text; not one of each")


def _is_factor(given: Any) -> bool:
    """Whether `given`, whatever a test hands over, is a number (numpy's are, too) between nothing and infinity."""
    return isinstance(given, Real) and not isinstance(given, bool) and 0 < float(given) < math.inf


def _claims(asked: Asked) -> Files:
    """The test's own claim, or those of its folder."""
    if asked.at_least is None:
        return load_expectations(asked.expectations, Path.cwd()).files
    claim = TimeClaim(
        id=f"{asked.workload}.speedup",
        workload=asked.workload,
        variant=OPTIMIZED,
        baseline=BASELINE,
        size=None,
        ratio=Bound(asked.at_least, None),
        max_ms={BASELINE: math.inf, OPTIMIZED: math.inf},
        why="the test says so",
        source=Source("definition", None, "at_least of the test"),
    )
    return (ExpectationFile(ANY, (claim,)),)


def _judged(evidence: Evidence, asked: Asked, files: Files, digest: str = "") -> tuple[Verdict, ...]:
    verdicts = beforehand(judge(files, evidence), evidence.run_id, digest)
    return verdicts if asked.at_least is None else tuple(v for v in verdicts if v.part == "speedup")


def _of_functions(pair: Mapping[str, Callable[[], Any]], asked: Asked) -> tuple[Verdict, ...]:
    """Rounds in this process, until they decide."""
    files = _claims(asked)
    conflict = differing(pair, asked.same)
    looks = DECIDING if asked.rounds is None else (asked.rounds,)
    evidence = Evidence(
        run_id=asked.name,
        workload=asked.workload,
        size=None,
        hardware_key=host.hardware("cuda" if host.visible_gpus() else "cpu").key,
        outputs_compared=False,
        variants={name: VariantEvidence(name, (), None, ()) for name in pair},
        rounds=(),
        notes=(),
        timed="call",
        stated=Stated(None, conflict, ""),
        looks=looks,
    )
    if conflict:
        return _judged(evidence, asked, files)
    begun, made = time.monotonic(), list[RoundTimes]()
    for one in called_rounds(pair, asked.clock):
        made.append(_round(len(made), one))
        late = asked.rounds is None and time.monotonic() - begun > asked.budget_s
        if len(made) in looks or late:
            verdicts = _judged(replace(evidence, rounds=tuple(made)), asked, files)
            decided = all(v.status != "inconclusive" for v in verdicts) or any(v.status == "missed" for v in verdicts)
            if late or len(made) == looks[-1] or decided:
                return verdicts
    raise AssertionError("rounds do not end by themselves")


def _round(index: int, made: CalledRound) -> RoundTimes:
    return RoundTimes(index, made.order, {name: (ns,) for name, ns in made.ns.items()})


def _goal(claim: TimeClaim, least: float) -> Goal:
    limits = {name: most for name, most in claim.max_ms.items() if most < math.inf}
    timed_by = claim.provenance.timed_by if claim.provenance else None
    return Goal(
        claim.id, claim.baseline, claim.variant, least, claim.by, False, limits, claim.min_items_per_s, timed_by
    )


def _of_commands(baseline: str, optimized: str, asked: Asked) -> tuple[Verdict, ...]:
    """A run of `capture --profile none`, as a pair of commands."""
    files = _claims(asked)
    options = Options("none", None, asked.rounds or DECIDING[-1], (), "default", "auto", "auto", TIMEOUT_S, 0, None, ())
    plan = pair_plan(baseline, (), optimized, asked.workload, "auto", options)
    if asked.rounds is None:
        claims = [c for f in files for c in f.claims if isinstance(c, TimeClaim) and c.workload == asked.workload]
        goals = tuple(_goal(c, c.ratio.minimum) for c in claims if c.ratio.minimum is not None)
        plan = replace(plan, looks=DECIDING, goals=goals, budget_s=asked.budget_s)
    check_plan(plan)
    (folder,) = capture_each([plan], asked.folder)
    run = load_run(folder)
    return _judged(evidence_of(run), asked, files, run.manifest.digest)
