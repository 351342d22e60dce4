"""Energy for one item and clocks beside the time: what is read from the rounds, and where every face shows it or says nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.analyze.words import joules
from aisp_trace.cli import main as cli
from aisp_trace.expectations.judging.energy import Drawn, clock_spans, drawn, energy_spans, gain_in_cycles, untold
from aisp_trace.expectations.judging.evidence import Evidence, gather
from aisp_trace.expectations.judging.judged import Judged
from aisp_trace.expectations.model import Expectations
from aisp_trace.report.page.page import render
from aisp_trace.report.results.page import Result, page
from aisp_trace.tests.judging.build import run_folder
from aisp_trace.traces.run import GpuState, Run, load_run

SAMPLE = Path(__file__).resolve().parents[1] / "traces" / "samples" / "h200_pipeline_sequential"
SPANS = "from the first timed iteration to the last, with fresh inputs and checks of outputs between them"
PASS = "of {} iterations back to back on one draw of inputs, including L2 flush and reset where the workload has them"


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


def repeated(run: Run, joules: tuple[float, float], counts: tuple[int, int] = (25, 50)) -> Run:
    """`run` with an energy pass of either variant in every round, of so many iterations that drew so much."""
    base, opt = (GpuState(0, 10, (1900,) * 3, (), 2 * j, 60, ("power cap",), round(1e3 * j)) for j in joules)
    rounds = []
    for r in run.manifest.rounds:
        count = dict(zip(("baseline", "optimized"), counts, strict=True))
        results = [replace(v, repeated_ns=(200, 300), repeated=count[v.name]) for v in r.result.variants]
        states = {"baseline": (base,), "optimized": (opt,)}
        rounds.append(replace(r, repeated_gpu_state=states, result=replace(r.result, variants=results)))
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


def test_energy_is_that_of_the_pass_where_every_round_has_one(tmp_path: Path) -> None:
    """
    timed     | baseline  fill 5 %                    |   20,480 J, 1,500 MHz      what the earlier rule withholds
    pass      | 25 iterations of 1,024 items, 51.2 J  |   2 mJ an item
              | 50 iterations,                51.2 J  |   1 mJ
    """
    plain = made(tmp_path, gpu(1500, 20_480_000, 0.05), gpu(2000, 10_240_000, 0.1))
    assert [row.joules_per_item for row in drawn(of(plain))] == [None, None]
    assert untold(of(plain), ("baseline", "optimized")) != ""
    shown = of(repeated(plain, (51.2, 51.2)))
    assert drawn(shown) == (
        Drawn("baseline", 51.2 / (1024 * 25), "samples", 1500, (25, 25)),
        Drawn("optimized", 51.2 / (1024 * 50), "samples", 2000, (50, 50)),
    )
    assert untold(shown, ("baseline", "optimized")) == ""
    assert gain_in_cycles(shown, "baseline", "optimized") == pytest.approx(1.5, rel=0.01), "clocks of the timed span"


def test_energy_of_the_pass_is_the_median_round(tmp_path: Path) -> None:
    run = repeated(made(tmp_path, gpu(1500, 1), gpu(2000, 1)), (51.2, 51.2))
    rounds = []
    for r in run.manifest.rounds:
        results = [replace(v, repeated=25 + r.index) for v in r.result.variants]
        (one,) = r.repeated_gpu_state["baseline"]
        state = replace(one, energy_mj=1024 * (25 + r.index) * (1 + r.index))
        states = {**r.repeated_gpu_state, "baseline": (state,)}
        rounds.append(replace(r, repeated_gpu_state=states, result=replace(r.result, variants=results)))
    base, _ = drawn(of(replace(run, manifest=replace(run.manifest, rounds=rounds))))
    assert base.joules_per_item == pytest.approx(4.5e-3), "1 to 8 mJ over eight rounds"
    assert base.repeated == (25, 32)


def test_gpus_are_summed_over_the_pass_and_idle_ones_left_out(tmp_path: Path) -> None:
    run = repeated(made(tmp_path, gpu(1500, 100, 0.05), gpu(2000, 100, 0.1)), (51.2, 51.2))
    two, idle = GpuState(1, 10, (), (), None, 60, (), 51_200), GpuState(2, 10, (), (), None, 30, ("idle",), 9_000)

    def with_states(*more: GpuState) -> Run:
        rounds = [
            replace(r, repeated_gpu_state={name: (*states, *more) for name, states in r.repeated_gpu_state.items()})
            for r in run.manifest.rounds
        ]
        return replace(run, manifest=replace(run.manifest, rounds=rounds))

    assert drawn(of(with_states(two, idle)))[0].joules_per_item == pytest.approx(2 * 51.2 / (1024 * 25))
    unknown = of(with_states(replace(two, energy_mj=None)))
    assert drawn(unknown)[0].joules_per_item is None
    assert untold(unknown, ("baseline", "optimized")) == "", "not for what lies between timed iterations"


@pytest.mark.parametrize("change", ["no pass", "no states", "another exit code"])
def test_one_round_without_a_pass_leaves_the_rule_for_the_timed_span(tmp_path: Path, change: str) -> None:
    run = repeated(made(tmp_path, gpu(1500, 20_480_000), gpu(2000, 10_240_000, 2.0)), (51.2, 51.2))
    first, *others = run.manifest.rounds
    results = [replace(v, repeated_ns=(), repeated=0) for v in first.result.variants]
    first = {
        "no pass": replace(first, result=replace(first.result, variants=results)),
        "no states": replace(first, repeated_gpu_state={}),
        "another exit code": replace(first, exit_code=1),
    }[change]
    found = drawn(of(replace(run, manifest=replace(run.manifest, rounds=[first, *others]))))
    whole = change == "another exit code"  # which is not a round at all
    assert [row.repeated for row in found] == ([(25, 25), (50, 50)] if whole else [None, None])
    assert [row.joules_per_item for row in found] == ([pytest.approx(2e-3), pytest.approx(1e-3)] if whole else [2, 1])


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
    old, new, more = (Drawn("x", 1.0, "samples", None, count) for count in (None, (25, 25), (9, 1234)))
    for timed, words in (("iteration", SPANS), ("whole process", "of whole processes, start-up included")):
        assert clock_spans(timed) == energy_spans(timed, {}) == energy_spans(timed, {"base": old, "opt": None}) == words
    assert energy_spans("iteration", {"base": new}) == PASS.format("25")
    assert energy_spans("iteration", {"base": new, "opt": more}) == PASS.format("9 to 1,234")
    mixed = f"base {SPANS}; opt {PASS.format('25')}"
    assert energy_spans("iteration", {"base": old, "opt": new}) == mixed
    unread = replace(old, joules_per_item=None)
    assert energy_spans("iteration", {"base": unread, "opt": new}) == PASS.format("25")


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
    assert found["sides"][0]["drawn"] == {
        "joules_per_item": pytest.approx(per_item),
        "unit": "samples",
        "sm_mhz": 1980,
        "repeated": None,
    }
    whole = next(c for c in found["comparisons"] if c["role"] == "total")["untraced"]
    assert whole["cycles_ratio"] == pytest.approx(whole["ratio"])
    assert cli.main(["compare", str(sample)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "energy for one of the samples: baseline 414 uJ, optimized 169 uJ, cuda_graph 172 uJ" in out
    assert f"energy 414 uJ -> 169 uJ for one of the samples, SM clock 1,980 -> 1,980 MHz: {SPANS}" in out
    assert "in SM cycles, which exclude the difference of the clocks: 10.03x" in out


@pytest.fixture(name="passed")
def _passed(sample: Path) -> Path:
    """The sample with energy passes, and timed iterations that fill a hundredth of their span."""
    manifest: dict[str, Any] = json.loads((sample / "manifest.json").read_text())
    counts = {"baseline": 10, "optimized": 99, "cuda_graph": 101}
    for r in manifest["rounds"]:
        r["repeated_gpu_state"] = {}
        for v in r["result"]["variants"]:
            v["repeated_ns"], v["repeated"] = [200, 300], counts[v["name"]]
            (timed,) = r["gpu_state"][v["name"]]
            timed["power_w"] /= 100
            state = {**timed, "power_w": 600.0, "energy_mj": 13_107_200}
            r["repeated_gpu_state"][v["name"]] = [state]
    (sample / "manifest.json").write_text(json.dumps(manifest))
    return sample


def test_compare_shows_the_energy_of_the_pass_and_what_it_is_of(
    passed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """13,107.2 J are 0.1 J for each of an iteration's 131,072 samples, in 10 and 99 iterations."""
    assert cli.main(["compare", str(passed), "--json"]) == 0
    base, opt, _ = (side["drawn"] for side in json.loads(capsys.readouterr().out)["sides"])
    assert (base["joules_per_item"], base["repeated"]) == (pytest.approx(0.01), {"least": 10, "most": 10})
    assert (opt["joules_per_item"], opt["repeated"]) == (pytest.approx(0.1 / 99), {"least": 99, "most": 99})
    assert cli.main(["compare", str(passed)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "energy for one of the samples: baseline 10.0 mJ, optimized 1.01 mJ, cuda_graph 990 uJ" in out
    assert f"energy 10.0 mJ -> 1.01 mJ for one of the samples: {PASS.format('10 to 99')}" in out
    assert f"SM clock 1,980 -> 1,980 MHz: {SPANS}" in out


def test_compare_of_an_older_run_and_a_newer_one_says_what_each_energy_is_of(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    older = shutil.copytree(sample, tmp_path / "older")
    newer = request.getfixturevalue("passed")
    assert cli.main(["compare", f"{older}:optimized", f"{newer}:optimized"]) in (0, 3)
    out = " ".join(capsys.readouterr().out.split())
    assert f"for one of the samples: base {SPANS}; opt {PASS.format('99')}" in out


def test_check_notes_the_energy_of_the_pass_and_what_it_is_of(passed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", str(passed)])
    out = " ".join(capsys.readouterr().out.split())
    assert f"energy for one of the samples, {PASS.format('10 to 99')}: baseline 10.0 mJ, optimized 1.01 mJ" in out
    assert "no energy is given" not in out


def test_check_without_a_pass_withholds_it(passed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest: dict[str, Any] = json.loads((passed / "manifest.json").read_text())
    for r in manifest["rounds"]:
        del r["repeated_gpu_state"]
        for v in r["result"]["variants"]:
            del v["repeated_ns"], v["repeated"]
    (passed / "manifest.json").write_text(json.dumps(manifest))
    cli.main(["check", str(passed)])
    out = " ".join(capsys.readouterr().out.split())
    assert "no energy is given: timed iterations fill 1 % of the time" in out
    assert "energy for one" not in out


def test_compare_of_a_run_that_read_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(SAMPLE.with_name("h200_memory_standard"))]) == 0
    out = capsys.readouterr().out
    assert "energy" not in out and "SM c" not in out


def test_a_chosen_window_is_no_unit_of_the_run(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", f"{sample}:baseline", f"{sample}:optimized", "--window", "iteration#2", "--json"]) == 0
    assert {side["drawn"] for side in json.loads(capsys.readouterr().out)["sides"]} == {None}


def test_the_page_has_a_tile_and_a_table(tmp_path: Path) -> None:
    html = render(made(tmp_path, gpu(1500, 20_480_000), gpu(2000, 10_240_000, 2.0)), [], {}, None)
    assert_tile(html)
    assert "1,500 MHz" in html and "2,000 MHz" in html and "1.500 ×" in html
    assert f"Energy and clocks are {SPANS}." in html
    plain = render(made(tmp_path / "x", None, None), [], {}, None)
    body = plain.partition("<body>")[2].partition("<script")[0]
    assert "nergy" not in body and "SM clock" not in body


def assert_tile(html: str) -> None:
    """The tile names both variants beside their joules."""
    tile = html.split("<dt>energy, one of the samples</dt>", 1)[1].split("</dl>", 1)[0]
    assert " ".join(re.sub("<[^>]*>", " ", tile).split()).startswith("baseline 2.000 J optimized 1.000 J")


def test_the_page_says_what_each_figure_is_of(tmp_path: Path) -> None:
    run = repeated(made(tmp_path, gpu(1500, 20_480_000, 0.05), gpu(2000, 10_240_000, 0.1)), (51_200, 51_200))
    html = render(run, [], {}, None)
    assert_tile(html)
    assert f"Energy is {PASS.format('25 to 50')}. Clocks are {SPANS}." in html


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
    newer = text_of(repeated(made(tmp_path / "y", gpu(1500, 1, 0.05), gpu(2000, 1, 0.1)), (51_200, 51_200)))
    assert "| `optimized` | 10.00 ms | 1.000 J | 2,000 MHz |" in newer
    assert "- **energy** is of untraced rounds: of iterations back to back on one draw of inputs" in newer
    assert "Runs older than that" not in newer and "seems to take more" not in newer
