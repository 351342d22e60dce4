"""Energy for one item and clocks beside the time: what is read from the rounds, and where every face shows it or says nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.words import joules
from aisp_trace.cli import main as cli
from aisp_trace.expectations.judging.energy import Drawn, drawn, energy_spans, gain_in_cycles, untold
from aisp_trace.expectations.judging.evidence import Evidence, gather
from aisp_trace.expectations.judging.judged import Judged
from aisp_trace.expectations.model import Expectations
from aisp_trace.report.page.page import render
from aisp_trace.report.results.page import Result, page
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.traces.run import GpuState, Run, load_run

SAMPLE = Path(__file__).resolve().parents[1] / "traces" / "samples" / "h200_pipeline_sequential"
SPANS = "from the first timed iteration to the last, with fresh inputs and checks of outputs between them"


def gpu(mhz: int | None, mj: int | None, filled: float = 1.0) -> GpuState:
    """A state whose power makes timed iterations of the baseline fill this part of the span, those of the other half of it."""
    power = None if mj is None else mj / 1e3 * filled / 0.2
    return GpuState(0, 5, () if mhz is None else (mhz, mhz, mhz), (), power, 55, (), mj)


def made(tmp: Path, base: GpuState | None, opt: GpuState | None) -> Run:
    """Ten iterations of 1,024 samples, 20 and 10 ms each, with a state of either variant in every round."""
    run = load_run(run_folder(tmp / "pipeline-1"))
    states = {name: (one,) for name, one in (("baseline", base), ("optimized", opt)) if one is not None}
    rounds = []
    for r in run.manifest.rounds:
        results = [replace(v, timed_ns=(0, 100)) for v in r.result.variants]
        rounds.append(replace(r, gpu_state=states, result=replace(r.result, variants=results)))
    return replace(run, manifest=replace(run.manifest, rounds=rounds))


def of(run: Run) -> Evidence:
    return gather(run, {})


# --- what is read -----------------------------------------------------------------------------------------------------------


def test_energy_is_of_one_item_and_clocks_are_medians(tmp_path: Path) -> None:
    shown = of(made(tmp_path, gpu(1500, 20_480_000), gpu(2000, 10_240_000, 2.0)))
    assert drawn(shown) == (Drawn("baseline", 2.0, "samples", 1500), Drawn("optimized", 1.0, "samples", 2000))
    assert gain_in_cycles(shown, "baseline", "optimized") == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize(("filled", "told"), [(1.0, True), (0.52, True), (0.48, False)])
def test_energy_of_a_span_that_holds_mostly_something_else_is_not_told(
    tmp_path: Path, filled: float, told: bool
) -> None:
    shown = of(made(tmp_path, gpu(1500, 20_480_000, filled), gpu(2000, 10_240_000, 2 * filled)))
    assert [row.joules_per_item for row in drawn(shown)] == ([2.0, 1.0] if told else [None, None])
    said = untold(shown, ("baseline", "optimized"))
    assert said == ("" if told else said)
    assert ("fill 48 % of the time in which baseline's was read and 48 % of" in said) == (not told)


def test_what_was_not_read_has_no_row_and_no_figure(tmp_path: Path) -> None:
    assert drawn(of(made(tmp_path / "a", None, None))) == ()
    assert drawn(of(made(tmp_path / "b", gpu(None, None), gpu(1980, None)))) == (
        Drawn("optimized", None, "samples", 1980),
    )
    assert gain_in_cycles(of(made(tmp_path / "c", gpu(1980, 1), None)), "baseline", "optimized") is None


def test_one_round_without_a_reading_leaves_nothing(tmp_path: Path) -> None:
    run = made(tmp_path, gpu(1980, 10), gpu(1980, 10))
    first, *others = run.manifest.rounds
    rounds = [replace(first, gpu_state={}), *others]
    assert drawn(of(replace(run, manifest=replace(run.manifest, rounds=rounds)))) == ()


def test_what_the_energy_is_of_is_said() -> None:
    assert energy_spans("iteration") == SPANS
    assert energy_spans("whole process") == "of whole processes, start-up included"


@pytest.mark.parametrize(
    ("energy", "words"),
    [(4.137e-4, "414 uJ"), (0.0931, "93.1 mJ"), (12.3, "12.3 J"), (4000.0, "4.00 kJ"), (0.0, "0 uJ"), (None, "-")],
)
def test_joules_have_the_unit_a_person_would_choose(energy: float | None, words: str) -> None:
    assert joules(energy) == words


# --- faces ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="sample")
def _sample(tmp_path: Path) -> Path:
    """The sample run as a capture with NVML would have left it: 1,980 MHz, and 542 J and 222 J for ten iterations."""
    place = tmp_path / "read"
    shutil.copytree(SAMPLE, place)
    manifest: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    energy = {"baseline": 542_000, "optimized": 222_000, "cuda_graph": 225_000}
    for r in manifest["rounds"]:
        r["gpu_state"] = {}
        for v in r["result"]["variants"]:
            v["timed_ns"] = [0, 100]
            power = energy[v["name"]] / 1e3 / (sum(v["iterations_ns"]) / 1e9)
            state = {"gpu": 0, "samples": 5, "sm_mhz": [1980] * 3, "memory_mhz": [3201] * 3, "power_w": power}
            state |= {"temperature_c": 40, "slowdown": [], "energy_mj": energy[v["name"]]}
            r["gpu_state"][v["name"]] = [state]
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def test_compare_shows_energy_and_clocks_beside_the_time(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(sample), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    per_item = 542 / 10 / 131_072
    assert found["sides"][0]["drawn"] == {"joules_per_item": pytest.approx(per_item), "unit": "samples", "sm_mhz": 1980}
    whole = next(c for c in found["comparisons"] if c["role"] == "total")["untraced"]
    assert whole["cycles_ratio"] == pytest.approx(whole["ratio"])
    assert cli.main(["compare", str(sample)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "energy for one of the samples: baseline 414 uJ, optimized 169 uJ, cuda_graph 172 uJ" in out
    assert f"energy 414 uJ -> 169 uJ for one of the samples, SM clock 1,980 -> 1,980 MHz: {SPANS}" in out
    assert "in SM cycles, which leave out what the clocks differ by: 10.03x" in out


def test_compare_of_a_run_that_read_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(SAMPLE.with_name("h200_memory_standard"))]) == 0
    out = capsys.readouterr().out
    assert "energy" not in out and "SM c" not in out


def test_a_chosen_window_is_no_unit_of_the_run(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", f"{sample}:baseline", f"{sample}:optimized", "--window", "iteration#2", "--json"]) == 0
    assert {side["drawn"] for side in json.loads(capsys.readouterr().out)["sides"]} == {None}


def test_the_page_has_a_tile_and_a_table(tmp_path: Path) -> None:
    html = render(made(tmp_path, gpu(1500, 20_480_000), gpu(2000, 10_240_000, 2.0)), [], {}, None)
    assert "energy, one of the samples</dt><dd>2.000 J → 1.000 J" in html
    assert "1,500 MHz" in html and "2,000 MHz" in html and "1.500 ×" in html
    assert f"Energy and clocks are {SPANS}." in html
    plain = render(made(tmp_path / "x", None, None), [], {}, None)
    assert "nergy" not in plain.partition("<script>")[0] and "SM clock" not in plain


def test_the_page_has_no_column_of_what_was_not_read(tmp_path: Path) -> None:
    html = render(made(tmp_path, gpu(1980, None), gpu(1980, None)), [], {}, None)
    assert "1,980 MHz" in html and "energy, one of" not in html


def test_the_results_have_columns_where_somebody_read_the_gpu(tmp_path: Path) -> None:
    def text_of(run: Run) -> str:
        return page([Result(run.manifest, Judged(Expectations(Path("x"), "option", ()), of(run), (), ()))])

    text = text_of(made(tmp_path, gpu(1500, 20_480_000), gpu(2000, 10_240_000, 2.0)))
    assert "| variant | iteration | energy, one of the samples | SM clock | gain |" in text
    assert "| `optimized` | 10.00 ms | 1.000 J | 2,000 MHz |" in text
    assert "- **energy** and **SM clock** are of untraced rounds, from the first timed iteration to the last." in text
    plain = text_of(made(tmp_path / "x", None, None))
    assert "energy" not in plain and "SM clock" not in plain
