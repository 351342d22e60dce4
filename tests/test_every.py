"""Capturing every workload: who is left out and why, one failure among several, an interrupt, and the table at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from aisp_trace.capture import host
from aisp_trace.capture.plan import SCHEMA, Plan, PlannedVariant
from aisp_trace.capture.progress import Progress
from aisp_trace.cli import every
from aisp_trace.cli.main import main
from aisp_trace.report.terminal.captured import summary
from aisp_trace.traces.errors import RecorderError, WorkloadError
from aisp_trace.traces.run import (
    Hardware,
    Manifest,
    Output,
    ProcessResult,
    Round,
    Run,
    Variant,
    VariantResult,
    Work,
    load_run,
    write_json,
)
from aisp_trace.workloads.catalog import CATALOG, Entry

HERE = CATALOG[0]
PAIR = dataclasses.replace(HERE, name="pair", gpus=2)
GPU_ONLY = dataclasses.replace(HERE, name="gpu_only", devices=("cuda",))


def made_plan(name: str, rounds: int = 2) -> Plan:
    variants = [PlannedVariant("baseline", ""), PlannedVariant("optimized", "")]
    return Plan(
        SCHEMA, name, "builtin", ("x",), variants, "none", None, "cpu", 1, 0, "tiny", 0, rounds, False, 9.0, (), ()
    )


def made_run(folder: Path, name: str, times: dict[str, list[int]]) -> Path:
    """A run of one iteration in each round; `times` in nanoseconds, variant by variant."""
    work, output = Work(1, "samples", 0, 0, 0), Output(0.0, 1.0, "float64", 0, True)

    def made_round(index: int) -> Round:
        results = [VariantResult(v, "perf_counter", [ns[index]], work, output) for v, ns in times.items()]
        answer = ProcessResult("aisp-trace/result/1", name, "cpu", "tiny", 0, results)
        return Round(index, ("x",), 0, 1, "2026-11-22T17:01:02Z", answer)

    rounds = [made_round(i) for i in range(len(next(iter(times.values()))))]
    hardware = Hardware("cpu_x", "cpu", (), None, None, "x", 2)
    manifest = Manifest(
        schema="aisp-trace/run/1",
        run_id=name,
        created_utc="2026-11-22T17:01:02Z",
        workload=name,
        source="builtin",
        command_line=("aisp-trace", "capture"),
        profile="none",
        recorder=None,
        hardware=hardware,
        size="tiny",
        seed=0,
        iterations=1,
        warmup=0,
        packages={},
        git={"commit": None, "dirty": None},
        variants=[Variant(v, "", None) for v in times],
        rounds=rounds,
    )
    (folder / name).mkdir(parents=True)
    write_json(folder / name / "manifest.json", manifest)
    return folder / name


# -- which can run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gpus", "names"),
    [
        ("auto", 0, ["pipeline_sequential", "pair"]),
        ("auto", 1, ["pipeline_sequential", "gpu_only"]),
        ("auto", 2, ["pipeline_sequential", "pair", "gpu_only"]),
        ("cpu", 2, ["pipeline_sequential", "pair"]),
        ("cuda", 1, ["pipeline_sequential", "gpu_only"]),
        ("cuda", 0, []),
    ],
)
def test_what_a_machine_cannot_run_is_left_out(asked: str, gpus: int, names: list[str]) -> None:
    able, reasons = every.able((HERE, PAIR, GPU_ONLY), asked, gpus)
    assert [entry.name for entry in able] == names
    assert len(reasons) == 3 - len(names)


def test_the_reason_names_what_is_missing_and_what_to_do() -> None:
    assert every.able((PAIR,), "auto", 1)[1] == [
        "pair is left out: it needs 2 GPUs and 1 can be used; `aisp-trace capture pair --device cpu` would"
    ]
    assert every.able((GPU_ONLY,), "auto", 0)[1] == ["gpu_only is left out: it needs 1 GPU and none can be used"]
    assert every.able((GPU_ONLY,), "cpu", 0)[1] == ["gpu_only is left out: it cannot run on cpu; it runs on cuda"]


def test_a_machine_that_can_run_nothing_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "visible_gpus", list)
    assert main(["capture", "--device", "cuda", "--profile", "none"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(CATALOG) + 1
    assert "no workload can run on cuda here" in lines[-1]


def test_a_workload_of_two_gpus_is_refused_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "visible_gpus", lambda: [{"name": "x"}])
    assert main(["capture", "ddp_overlap", "--device", "cuda", "--profile", "none"]) == 2
    said = capsys.readouterr().err
    assert "ddp_overlap cannot be captured on cuda here: it needs 2 GPUs and 1 can be used; take --device cpu" in said


def test_a_dry_run_without_a_name_plans_every_workload(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["capture", "--device", "cpu", "--profile", "none", "--rounds", "1", "--size", "tiny", "--dry-run"]
    assert main(args) == 0
    out = capsys.readouterr().out
    planned = [line.split()[1].rstrip(",") for line in out.splitlines() if line.startswith("# ")]
    assert planned == [entry.name for entry in CATALOG if "cpu" in entry.devices and not entry.tasks]
    assert list(tmp_path.iterdir()) == []


# -- one after the other -------------------------------------------------------------------------------------------


class Clock:
    """Every look is 10 s later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def maker(folder: Path, wrong: dict[str, BaseException]) -> Callable[..., Path]:
    def make(plan: Plan, output: Path, progress: Callable[[str, int], Progress]) -> Path:
        if plan.workload in wrong:
            raise wrong[plan.workload]
        return made_run(folder, plan.workload, {"baseline": [20, 20], "optimized": [10, 10]})

    return make


def test_one_failure_keeps_nothing_from_being_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [made_plan(name) for name in ("one", "two", "three")]
    make = maker(tmp_path, {"two": RecorderError("the recorder is gone")})
    with pytest.raises(WorkloadError, match=r"1 of 3 workloads failed \(two\).*the 2 others are complete"):
        every.capture_each(plans, tmp_path, clock=Clock(), make=make)
    out, err = capsys.readouterr()
    assert [line.split("run: ")[1].rsplit("/", 1)[1] for line in out.splitlines() if "run: " in line] == [
        "one",
        "three",
    ]
    assert "the recorder is gone" in err


def test_the_time_left_is_that_of_all_workloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [made_plan("one", rounds=2), made_plan("two", rounds=8)]
    made = every.capture_each(plans, tmp_path, clock=Clock(), make=maker(tmp_path, {}))
    assert [path.name for path in made] == ["one", "two"]
    assert capsys.readouterr().err.splitlines() == [
        "aisp-trace: workload 1 of 2: one",
        "aisp-trace: workload 2 of 2: two, about 40 s left for all",  # 2 steps took 10 s, 8 are left
    ]


def test_an_interrupt_says_what_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [made_plan(name) for name in ("one", "two", "three")]
    with pytest.raises(KeyboardInterrupt):
        every.capture_each(plans, tmp_path, make=maker(tmp_path, {"two": KeyboardInterrupt()}))
    out, err = capsys.readouterr()
    assert out.startswith("run: ")
    assert err.splitlines()[-1] == "aisp-trace: interrupted in two; complete: 1 of 3; not begun: three"


def test_a_single_failure_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RecorderError, match="the recorder is gone"):
        every.capture_each(
            [made_plan("one")], tmp_path, make=maker(tmp_path, {"one": RecorderError("the recorder is gone")})
        )


# -- the table -----------------------------------------------------------------------------------------------------


def test_the_table_pairs_rounds_and_gives_an_interval_from_eight_on(tmp_path: Path) -> None:
    ms = 1_000_000
    many = {"baseline": [20 * ms] * 8, "optimized": [10 * ms] * 4 + [8 * ms] * 4}
    few = {"baseline": [30 * ms] * 2, "rung": [20 * ms] * 2, "optimized": [10 * ms] * 2}
    runs = [made_run(tmp_path, "many", many), made_run(tmp_path, "few", few)]
    loaded = [load_run(path) for path in runs]
    assert [line.split() for line in summary(loaded).splitlines()[1:]] == [
        ["many", "baseline", "20.000", "-", "-"],
        ["optimized", "9.000", "2.25", "x", "2.00", "to", "2.50"],
        ["few", "baseline", "30.000", "-", "-"],
        ["rung", "20.000", "1.50", "x", "-"],
        ["optimized", "10.000", "3.00", "x", "-"],
    ]


def test_a_variant_that_was_never_timed_has_no_figures(tmp_path: Path) -> None:
    run = load_run(made_run(tmp_path, "one", {"baseline": [1]}))
    bare = Run(run.path, dataclasses.replace(run.manifest, rounds=()))
    assert summary([bare]).splitlines()[1].split() == ["one", "baseline", "-", "-", "-"]


def test_entries_say_why_they_cannot_run() -> None:
    entry: Entry = PAIR
    assert entry.unmet("cuda", 2) == entry.unmet("cpu", 0) == ""
    assert entry.unmet("cuda", 0) == "it needs 2 GPUs and none can be used"
