"""docs/results.md from runs: figures of the recorded H200 run, wording on built evidence, and names that Markdown would obey."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.result import SCHEMAS, Analysis
from aisp_trace.expectations.deciding import concerns, median_interval
from aisp_trace.expectations.judging.evidence import RoundTimes, VariantEvidence
from aisp_trace.expectations.judging.judged import Judged, analyses_of_run, judge_run
from aisp_trace.expectations.judging.verdict import Verdict
from aisp_trace.expectations.model import Expectations
from aisp_trace.report.results.page import Result, page, pays
from aisp_trace.report.results.rows import Gain, Rate, rows_of, spent
from aisp_trace.tests.judging.build import HIDDEN, MS, OUTPUT, SERIAL, analysis, answer, evidence, run_folder, variant
from aisp_trace.tests.test_check_junit import HOSTILE, verdict
from aisp_trace.traces.run import Manifest, load_run

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "traces" / "samples" / "h200_pipeline_sequential"


def gain(ratios: Sequence[float], *objections: str) -> Gain:
    faster = sum(r > 1 for r in ratios)
    return Gain("baseline", median_interval(ratios), concerns(ratios), tuple(objections), faster)


QUIET = (0.000, 0.004, -0.003, 0.002, -0.004, 0.003, -0.002, 0.001)


@pytest.mark.parametrize(
    ("gained", "words"),
    [
        (gain([2 + d for d in QUIET]), "pays"),
        (gain([1 + d for d in QUIET]), "no difference shown"),
        (gain([0.9 + d for d in QUIET]), "**does not pay**"),
        (gain([1.0] * 8), "**does not pay**"),  # the interval is 1 itself
        (gain([2.0] * 7), "7 rounds, too few to tell"),
        (gain([2.0] * 8, "outputs differ"), "cannot be compared (below)"),
        (None, "–"),
    ],
)
def test_what_the_rounds_say_of_a_step(gained: Gain | None, words: str) -> None:
    assert pays(gained) == words


def test_rounds_that_disagree_are_never_said_to_pay() -> None:
    drifting = pays(gain([2.0 + 0.1 * i for i in range(8)]))
    assert drifting.startswith("rounds disagree: the rounds drift by ")
    assert drifting.endswith("; faster in 8 of 8")
    slower = pays(gain([0.5 + 0.05 * i for i in range(8)]))
    assert slower.startswith("**does not pay**; rounds disagree: the rounds drift by ")


def rounds(**ms: float) -> tuple[RoundTimes, ...]:
    """Eight quiet rounds in which each variant takes so many ms, a little more or less."""
    names = tuple(ms)
    return tuple(
        RoundTimes(
            i, names if i % 2 else names[::-1], {n: (round(v * MS * (1 + (i % 3) / 1000)),) * 3 for n, v in ms.items()}
        )
        for i in range(8)
    )


def ladder(**variants: Analysis | None) -> dict[str, VariantEvidence]:
    return {name: variant(name, found) for name, found in variants.items()}


def test_a_rung_is_held_against_the_one_before_it_and_an_alternative_against_what_it_changes() -> None:
    """baseline 8 ms, rung 4 ms, optimized 2 ms, other 5 ms: one change to rung."""
    names = ladder(baseline=SERIAL, rung=None, optimized=HIDDEN, other=None)
    found = rows_of(
        evidence(variants=names, rounds=rounds(baseline=8, rung=4, optimized=2, other=5)), {"other": "rung"}
    )
    steps = {r.variant: (r.step.over, round(r.step.ratio.value, 3)) if r.step else None for r in found}
    assert steps == {
        "baseline": None,
        "rung": ("baseline", 2.0),
        "optimized": ("rung", 2.0),
        "other": ("rung", 0.8),
    }
    assert [round(r.overall.ratio.value, 3) if r.overall else None for r in found] == [None, 2.0, 4.0, 1.6]
    assert [r.spent is None for r in found] == [False, True, False, True]


def test_an_order_that_hides_drift_is_a_concern_as_it_is_for_check() -> None:
    same = tuple(replace(r, order=("baseline", "optimized")) for r in evidence().rounds)
    (row,) = rows_of(evidence(rounds=same), {})[1:]
    assert pays(row.step).startswith("rounds disagree: baseline ran before optimized in 8 of 8 rounds")


LEDGER = (
    ("iteration/h2d", 0, "h2d", None, 100),
    ("iteration/compute", 0, "compute", None, 400),
    ("compute", 0, "compute", None, 100),  # the same stage, on a worker's thread
    ("iteration/h2d", 0, "idle", "allocator", 250),
    ("iteration/compute", 0, "idle", "queued", 150),
)


def test_where_the_window_went() -> None:
    found = spent(
        analysis(
            ledger=LEDGER,
            overlap={"copy|compute": (100, 500, 25), "comm|compute": (80, 500, 60)},
            tables={
                "windows": [(0, 0, 1000)],
                "exposed": [(0, None, "copy", 75), (0, None, "comm", 20), (0, "iteration/h2d", "copy", 75)],
            },
        )
    )
    assert (found.copies, found.hidden_copies, found.exposed_copies) == (True, 0.25, 0.075)
    assert (found.comm, found.hidden_comm, found.exposed_comm) == (True, 0.75, 0.02)
    assert (found.allocator, found.idle, found.idle_host, found.idle_cause) == (0.25, 0.4, 0.25, "allocator")
    assert found.largest is not None
    assert (found.largest.stage, found.largest.category, found.largest.share) == ("compute", "compute", 0.5)


def test_what_lies_between_iterations_is_in_no_share() -> None:
    """A reset of 600 ns between two iterations of 200 ns, each idle for 50."""
    cells = [("iteration/step", i, *part) for i in (0, 1) for part in PARTS]
    found = spent(analysis(ledger=[*cells, ("reset", None, "d2d", None, 600)]))
    assert (found.idle, found.idle_host, found.idle_cause) == (0.25, 0.25, "sync")
    assert found.largest is not None
    assert (found.largest.stage, found.largest.category, found.largest.share) == ("step", "compute", 0.75)


PARTS = (("compute", None, 150), ("idle", "sync", 50))


def test_the_rate_of_copies_is_told_with_what_it_is_of() -> None:
    row = dict.fromkeys(SCHEMAS["bandwidth"])
    rows = [
        {
            **row,
            "device": 0,
            "kind": "h2d",
            "ops": 1,
            "nbytes": 900,
            "sum_ns": 20,
            "peak_bytes_per_s": 50e9,
            "effective": False,
        },
        {
            **row,
            "device": 0,
            "kind": "h2d",
            "ops": 1,
            "nbytes": 100,
            "sum_ns": 5,
            "peak_bytes_per_s": 50e9,
            "effective": False,
        },
        {**row, "device": 0, "kind": "d2h", "ops": 1, "nbytes": 80, "sum_ns": 10, "effective": True},
    ]
    found = spent(analysis(ledger=LEDGER, tables={"bandwidth": [tuple(r.values()) for r in rows]})).rates
    assert found == (Rate("h2d", 40.0, 0.8, False), Rate("d2h", 8.0, None, True))


def test_the_busiest_kind_is_that_of_each_device_by_its_name() -> None:
    tables: dict[str, Sequence[Sequence[Any]]] = {
        "devices": [(0, "CPU", "host", 9, 9, 0), (1, "H100", "gpu", 9, 9, 0)],
        "iterations": [(0, 0, 100, 100)],
        "iteration_kinds": [(0, 0, "comm", 1, 80, 80, 0), (1, 0, "compute", 1, 50, 50, 0)],
    }
    found = spent(analysis(tables=tables)).busiest
    assert [(device, b.kind, b.ratio) for device, b in found] == [("host", "comm", 1.25), ("GPU 1", "compute", 2.0)]


def test_what_cannot_be_told_is_null_and_never_zero() -> None:
    blind = spent(
        analysis(ledger=LEDGER, distrust=dict.fromkeys(("ledger", "overlap", "causes"), ("unavailable", "lost")))
    )
    assert (blind.copies, blind.hidden_copies, blind.exposed_copies, blind.idle, blind.idle_host) == (None,) * 5
    assert (blind.allocator, blind.idle_cause, blind.largest, blind.comm) == (None, None, None, None)
    assert len(blind.doubts) == 3
    nothing = spent(analysis(kinds={}, overlap={}, ledger=LEDGER))
    assert (nothing.copies, nothing.hidden_copies, nothing.comm) == (False, None, False)


def result(folder: Path, verdicts: Sequence[Verdict] = (), **changes: object) -> Result:
    manifest: Manifest = load_run(run_folder(folder)).manifest
    return Result(manifest, Judged(Expectations(Path("x"), "option", ()), evidence(**changes), tuple(verdicts), ()))


def rows(text: str, table: int) -> dict[str, list[str]]:
    """The rows of the `table`-th table by their first cell."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    lines = [line.strip("| ").split(" | ") for line in blocks[table].splitlines()]
    return {line[0].strip("`"): line[1:] for line in lines}


def test_a_run_without_traces_has_times_and_dashes(tmp_path: Path) -> None:
    text = page([result(tmp_path / "run-1", variants=ladder(baseline=None, optimized=None))])
    assert rows(text, 1)["optimized"][0] == "10.00 ms"
    assert rows(text, 1)["optimized"][-1] == "pays"
    assert set(rows(text, 2)["optimized"]) == {"–"}


def test_a_single_command_has_no_gain_and_is_no_baseline(tmp_path: Path) -> None:
    made = result(tmp_path / "run-1", variants=ladder(baseline=SERIAL), rounds=())
    text = page([replace(made, manifest=replace(made.manifest, iterations=None))])
    assert rows(text, 0)["pipeline"][1:3] == ["–", "–"]
    assert rows(text, 1)["baseline"] == ["–"] * 4


def test_wrong_outputs_get_no_verdict_of_paying(tmp_path: Path) -> None:
    wrong = variant("optimized", HIDDEN, answer(output=replace(OUTPUT, ok=False, error=0.5)))
    text = page([result(tmp_path / "run-1", variants={"baseline": variant("baseline", SERIAL), "optimized": wrong})])
    assert rows(text, 1)["optimized"][-1] == "cannot be compared (below)"
    assert "- cannot be compared: the output of optimized in round 0 differs from the float64 reference" in text


def test_other_runs_of_a_workload_get_a_line_and_the_newest_minimal_one_the_tables(tmp_path: Path) -> None:
    old, new, deep = (result(tmp_path / name) for name in ("run-1", "run-2", "run-3"))
    new = replace(new, manifest=replace(new.manifest, created_utc="2026-01-02T00:00:00Z"))
    deep = replace(deep, manifest=replace(deep.manifest, created_utc="2026-01-03T00:00:00Z", profile="deep"))
    text = page([deep, new, old])
    assert "Run `run-2`; 2026-01-02, 1 × NVIDIA H100" in text
    assert "- another run: `run-1`, profile `minimal`, 8 rounds: `optimized` 2.00 × (1.99 to 2.01)" in text.replace(
        "1.993", "1.99"
    )
    assert "- another run: `run-3`, profile `deep`" in text


def test_a_newer_run_whose_rounds_disagree_gets_a_line(tmp_path: Path) -> None:
    same = tuple(replace(r, order=("baseline", "optimized")) for r in evidence().rounds)
    quiet, restless = result(tmp_path / "run-1"), result(tmp_path / "run-2", rounds=same)
    restless = replace(restless, manifest=replace(restless.manifest, created_utc="2099-01-02T00:00:00Z"))
    text = page([restless, quiet])
    assert "Run `run-1`;" in text and "- another run: `run-2`," in text
    slower = result(tmp_path / "run-3", rounds=rounds(baseline=8, optimized=9))
    slower = replace(slower, manifest=replace(slower.manifest, created_utc="2099-01-01T00:00:00Z"))
    assert "Run `run-3`;" in page([restless, quiet, slower]), "the newest of the quiet ones, whatever it found"
    three = ladder(baseline=SERIAL, rung=None, optimized=HIDDEN)
    more = result(
        tmp_path / "run-4",
        variants=three,
        rounds=tuple(replace(r, order=tuple(three)) for r in rounds(baseline=8, rung=4, optimized=2)),
    )
    assert "Run `run-4`;" in page([more, restless, quiet, slower]), "no rung is dropped because its rounds disagree"


def test_claims_are_counted_and_what_is_not_met_is_explained(tmp_path: Path) -> None:
    text = page([result(tmp_path / "run-1", [verdict("met"), verdict("missed")])])
    assert "- claims: 1 met, 1 missed; measured bounds were accepted from `pipeline-0`." in text
    assert "- missed: pipeline.faster, speedup of optimized over baseline: the interval lies somewhere." in text


def test_claims_of_the_overview_are_those_of_the_run_that_could_be_judged(tmp_path: Path) -> None:
    """A run that its bounds were measured in says nothing about them, however new it is."""
    own = replace(verdict("unrecorded"), source=replace(verdict("met").source, run="run-1"))
    old, new = result(tmp_path / "run-1", [own]), result(tmp_path / "run-2", [verdict("missed")])
    new = replace(new, manifest=replace(new.manifest, created_utc="2025-01-01T00:00:00Z", profile="deep"))
    text = page([old, new])
    assert rows(text, 0)["pipeline"][-1] == "1 missed"
    assert "- claims: 1 unrecorded; 1 bound measured in this run, to judge later ones." in text
    assert "- another run: `run-2`, profile `deep`, 8 rounds" in text


STORED = HOSTILE.replace("\ud800", "")
"""What of it a table can hold."""


def test_hostile_names_stay_in_their_cell(tmp_path: Path) -> None:
    made = result(tmp_path / "run-1", [verdict("invalid", claim=HOSTILE, quantity=HOSTILE, reason=HOSTILE)])
    hostile = analysis(
        ledger=[(STORED, 0, "idle", "host_code", 9)], distrust={"overlap": ("partial", STORED)}, iterations=0
    )
    bad = replace(
        made.judged.evidence,
        variants={"baseline": variant("baseline", hostile), HOSTILE: variant(HOSTILE, None)},
        notes=(HOSTILE,),
    )
    manifest = replace(
        made.manifest,
        workload=HOSTILE,
        run_id=HOSTILE,
        packages={"torch": HOSTILE},
        notes=[HOSTILE],
        variants=[
            replace(v, name=n, description=HOSTILE) for v, n in zip(made.manifest.variants, bad.variants, strict=True)
        ],
        hardware=replace(made.manifest.hardware, key=HOSTILE, gpus=[HOSTILE], driver=HOSTILE),
    )
    text = page([Result(manifest, replace(made.judged, evidence=bad))])
    for found, wide in ((0, 9), (1, 6), (2, 12)):
        block = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)[found]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()} == {wide}
    assert not re.search(r"<(?!!-- -->)", text), "no element but the empty comment"
    for alive in ("@you", "#1", "https://", "\x1b", "\u202e", "\x00", "[l]"):
        assert alive not in text
    text.encode("utf-8")


@pytest.fixture(scope="module")
def recorded() -> str:
    run = load_run(SAMPLE)
    return page([Result(run.manifest, judge_run(run, analyses_of_run(run), ROOT / "expectations"))])


def test_the_recorded_run_gives_the_figures_of_the_readme(recorded: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    low, middle, high = (f"{v}" for v in ("9.11", "10.03", "15.19"))
    assert f"{middle}x, between {low}x and {high}x" in readme
    assert rows(recorded, 1)["optimized"][:3] == ["12.51 ms", "1,980 MHz", f"{middle} × ({low} to {high})"]
    assert rows(recorded, 2)["optimized"][0] == "92.9 %"
    assert rows(recorded, 2)["baseline"][0] == "0 %"
    assert "- claims: 17 met; measured bounds were accepted from `pipeline_sequential-" in recorded
    assert re.search(r"^- device memory that torch held after the iterations: `baseline` [\d.]+ MB, ", recorded, re.M)
    assert "driver 580.159.04, torch 2.11.0, nsys 2025.3.1.0; profile `minimal`; 12 rounds of 10 iterations" in recorded


def test_the_script_writes_the_page_and_says_what_it_cannot_read(tmp_path: Path, recorded: str) -> None:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-P", "scripts/results.py", *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)

    output = tmp_path / "results.md"
    done = run(SAMPLE, "--output", output, "--expectations", ROOT / "expectations")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert output.read_text(encoding="utf-8") == recorded
    output.write_text("before")
    done = run(SAMPLE, tmp_path, "--output", output)
    assert done.returncode == 2
    assert "is not a run folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert output.read_text() == "before", "nothing is overwritten by half a page"
    assert "was given twice" in run(SAMPLE, SAMPLE).stderr
