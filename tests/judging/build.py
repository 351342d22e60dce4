"""Analyses, evidence and run folders from a few literals; everything not given is honest and unremarkable.

The default run is a pipeline of two variants, 10 iterations each, that moves 1,000,000 bytes each way per iteration in
10 copies, computes 10 kernels, and is exactly twice as fast when optimized:

    baseline    |h2d|compute|d2h|              20 ms an iteration, nothing overlaps
    optimized   |h2d    |
                  |compute|d2h|                10 ms an iteration, 80 % of the copies' time under compute
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from aisp_trace.analyze.result import SCHEMAS, Analysis
from aisp_trace.expectations.judging.evidence import Answer, Evidence, Recorded, RoundTimes, VariantEvidence
from aisp_trace.expectations.model import Bound, MechanismClaim, Provenance, Source, TimeClaim
from aisp_trace.traces.model import Meta
from aisp_trace.traces.run import (
    MANIFEST,
    Hardware,
    Manifest,
    Output,
    ProcessResult,
    Recording,
    Round,
    Variant,
    VariantResult,
    Work,
    write_json,
)
from aisp_trace.traces.run import SCHEMA as RUN_SCHEMA

MS = 1_000_000
TRUSTED = ("ledger", "causes", "projection", "overlap", "bandwidth", "allocator", "comm", "bytes", "time")

WORK = Work(1024, "samples", 10**9, 10**6, 10**6, {"h2d": 10**6, "d2h": 10**6})
OUTPUT = Output(1e-7, 1e-5, "float64", 0, True)
DEFINITION = Source("definition", None, "by construction")

KINDS = {"h2d": (100, 10**7), "compute": (100, 0), "d2h": (100, 10**7)}
STAGES = {"iteration/h2d": (100, 100), "iteration/compute": (100, 100), "iteration/d2h": (100, 100)}


def analysis(
    *,
    kinds: Mapping[str, tuple[int, int]] = KINDS,
    overlap: Mapping[str, tuple[int, int, int]] | None = None,
    stages: Mapping[str, tuple[int, int]] = STAGES,
    ledger: Iterable[tuple[str, int | None, str, str | None, int]] = (),
    iterations: int = 10,
    iteration_ms: int = 10,
    distrust: Mapping[str, tuple[str, str]] | None = None,
    tables: Mapping[str, Sequence[Sequence[Any]]] | None = None,
) -> Analysis:
    """One device's analysis.

    `kinds`: kind -> (ops, bytes). `overlap`: "a|b" -> (a_ns, b_ns, both_ns) of the device. `stages`: path ->
    (instances, ops). `ledger`: (stage, iteration, category, cause, ns). `distrust`: metric -> (level, reason), all
    others are ok. `tables` gives whole tables as rows.
    """
    length = iteration_ms * MS
    rows: dict[str, Sequence[Sequence[Any]]] = {
        "kinds": [(0, kind, ops, ops * 1000, ops * 1000, nbytes) for kind, (ops, nbytes) in kinds.items()],
        "overlap": [(0, None, *_overlap(pair, *ns)) for pair, ns in (overlap or {}).items()],
        "stages": [(0, path, n, n * 1000, n * 1000, ops, ops, ops * 1000) for path, (n, ops) in stages.items()],
        "windows": [(0, 0, 1_000_000)],
        "ledger": [(0, *cell) for cell in ledger],
        "iterations": [(i, 2 * i * length, (2 * i + 1) * length, length) for i in range(iterations)],
        "trust": [(m, *(distrust or {}).get(m, ("ok", ""))) for m in TRUSTED],
        **(tables or {}),
    }
    frames: dict[str, Any] = {
        name: pl.DataFrame([_padded(r, len(schema)) for r in rows.get(name, ())], schema=schema, orient="row")
        for name, schema in SCHEMAS.items()
    }
    return Analysis(variant=None, meta=Meta("trace.sqlite", "nsys", "2025.3", "3.20"), **frames)


def _overlap(pair: str, a_ns: int, b_ns: int, both_ns: int) -> tuple[Any, ...]:
    a, b = pair.split("|")
    ideal = min(a_ns, b_ns)
    return (a, b, a_ns, b_ns, both_ns, both_ns / a_ns if a_ns else None, both_ns / ideal if ideal else None)


def _padded(row: Sequence[Any], width: int) -> tuple[Any, ...]:
    """A row whose last columns, about which the test says nothing, are null."""
    return (*row, *(None for _ in range(width - len(row))))


SERIAL = analysis(overlap={"copy|compute": (500, 500, 0)}, iteration_ms=20)
HIDDEN = analysis(overlap={"copy|compute": (500, 500, 400)})


def answer(where: str = "round 0", **changes: Any) -> Answer:
    """What an honest process says; `changes` are fields of `Answer`."""
    return replace(Answer(where, ("pipeline", "cuda", "default", 0), "cuda_event", WORK, OUTPUT), **changes)


def rounds(baseline_ms: Sequence[float], optimized_ms: Sequence[float]) -> tuple[RoundTimes, ...]:
    """One round for each pair of medians, ten iterations each, in alternating order."""
    pair = ("baseline", "optimized")
    return tuple(
        RoundTimes(
            i,
            pair if i % 2 == 0 else pair[::-1],
            {"baseline": jittered(a, i, "baseline"), "optimized": jittered(b, i, "optimized")},
        )
        for i, (a, b) in enumerate(zip(baseline_ms, optimized_ms, strict=True))
    )


def jittered(median_ms: float, *seed: object) -> tuple[int, ...]:
    """Ten iterations as a clock tells them: all different, of exactly this mean and median, and other ones for another `seed`."""
    drawn = random.Random(" ".join(map(str, seed)))
    around = [sign * d for d in drawn.sample(range(1, 1001), 5) for sign in (-1, 1)]
    drawn.shuffle(around)
    return tuple(round(median_ms * MS) + d for d in around)


BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS_S = 29


def started(number: int, each_s: float = PROCESS_S + 1) -> str:
    """When process `number` of a run is started, one after the other."""
    return f"{BEGUN + timedelta(seconds=number * each_s):%FT%TZ}"


def lasted(*seed: object, about_s: float = PROCESS_S) -> int:
    """The nanoseconds of a process that takes `about_s`: no two are the same."""
    return round(about_s * 1e9) + random.Random(" ".join(map(str, seed))).randrange(round(about_s * 1e5))


BASE_MS = (20.00, 20.05, 19.95, 20.02, 19.98, 20.04, 19.96, 20.01)
FAST_MS = (10.00, 9.99, 10.01, 10.02, 9.98, 10.01, 9.99, 10.00)


def variant(name: str, analysed: Analysis | None, *answers: Answer, traced_ns: Sequence[int] = ()) -> VariantEvidence:
    return VariantEvidence(name, answers or (answer(), answer("the recording")), analysed, tuple(traced_ns))


def recorded(shown: Evidence, times: int) -> Evidence:
    """`shown` with each variant recorded `times` times, all alike."""
    variants = {
        name: replace(v, again=(Recorded(v.analysis, v.traced_ns),) * (times - 1)) for name, v in shown.variants.items()
    }
    return replace(shown, variants=variants)


def evidence(**changes: Any) -> Evidence:
    """The default run; `changes` are fields of `Evidence`."""
    default = Evidence(
        run_id="pipeline-1",
        workload="pipeline",
        size="default",
        hardware_key="h100",
        outputs_compared=True,
        variants={"baseline": variant("baseline", SERIAL), "optimized": variant("optimized", HIDDEN)},
        rounds=rounds(BASE_MS, FAST_MS),
        notes=(),
    )
    return replace(default, **changes)


def mechanism(
    metric: str = "overlap.efficiency", *, low: float | None = None, high: float | None = None, **changes: Any
) -> MechanismClaim:
    """A claim on the optimized variant; by default that copies overlap compute."""
    default = MechanismClaim(
        id="copies_hidden",
        workload="pipeline",
        variant="optimized",
        metric=metric,
        of="copy|compute" if metric.startswith("overlap.") else None,
        stage=None,
        against=None,
        size=None,
        bound=Bound(low, high),
        unit="fraction",
        why="copies run under compute",
        source=DEFINITION,
        provenance=None,
    )
    return replace(default, **changes)


def time_claim(
    low: float = 1.5, high: float | None = 3.0, base_ms: float = 25.0, fast_ms: float = 12.0, **changes: Any
) -> TimeClaim:
    """A claim that the default run meets."""
    default = TimeClaim(
        id="faster",
        workload="pipeline",
        variant="optimized",
        baseline="baseline",
        size="default",
        ratio=Bound(low, high),
        max_ms={"baseline": base_ms, "optimized": fast_ms},
        why="copies are hidden",
        source=Source("measured", "pipeline-0", "median of 8 rounds"),
        provenance=Provenance("abc1234", "580.65", "2.11.0", "2025.3", 8, 0.004, "2026-01-01T00:00:00Z"),
    )
    return replace(default, **changes)


def run_folder(path: Path, *, key: str = "h100", ok: bool = True, n_rounds: int = 8, traced: bool = True) -> Path:
    """A run of the default pipeline as `capture` leaves it (without trace files); `ok` is the optimized output's."""

    def results(i: int, of: str = "round") -> ProcessResult:
        names = ("baseline", "optimized") if i % 2 == 0 else ("optimized", "baseline")
        ms = {"baseline": BASE_MS[i % 8], "optimized": FAST_MS[i % 8]}
        output = {"baseline": OUTPUT, "optimized": replace(OUTPUT, ok=ok, error=1e-7 if ok else 0.5)}
        found = []
        for n in names:
            seed = (i, n) if of == "round" else (of, i, n)
            found.append(VariantResult(n, "cuda_event", jittered(ms[n], *seed), WORK, output[n]))
        return ProcessResult("aisp-trace/result/1", "pipeline", "cuda", "default", 0, found)

    def recording(name: str) -> Recording:
        whole = results(0, "recording")
        own = replace(whole, variants=[v for v in whole.variants if v.name == name])
        command = ["nsys", "profile", *command_of([name], "traced.json"), "--trace"]
        return Recording(
            "nsys", "2025.3", command, 0, lasted("recording", name, about_s=10), f"{name}/trace.sqlite", None, own
        )

    def round_(i: int) -> Round:
        result = results(i)
        command = command_of([v.name for v in result.variants], f"round_{i:02d}.json")
        return Round(i, command, 0, lasted(i), started(i), result)

    made = [round_(i) for i in range(n_rounds)]
    manifest = Manifest(
        schema=RUN_SCHEMA,
        run_id=path.name,
        created_utc="2026-01-01T01:00:00Z",
        workload="pipeline",
        source="builtin",
        command_line=["aisp-trace", "capture", "pipeline"],
        profile="minimal",
        recorder="nsys",
        hardware=Hardware(key, "cuda", [f"NVIDIA {key.upper()}"], "580.65", "13.0", "EPYC", 16),
        size="default",
        seed=0,
        iterations=10,
        warmup=1,
        packages={},
        git={"commit": None, "dirty": None},
        variants=[Variant(n, n, recording(n) if traced else None) for n in ("baseline", "optimized")],
        rounds=made,
    )
    path.mkdir(parents=True)
    write_json(path / MANIFEST, manifest)
    return path


def command_of(names: Sequence[str], result: str) -> list[str]:
    """The command line of one process of the default pipeline."""
    asked = [word for name in names for word in ("--variant", name)]
    return ["python3", "-m", "pipeline", *asked, "--iterations", "10", "--warmup", "1", "--result", result]
