"""The recorded H200 run in the repository: what the README says of it is what the product computes from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aisp_trace.cli.main import main
from aisp_trace.expectations.deciding import median_interval, ratio_sample
from aisp_trace.expectations.judging.judged import analyses_of_run, judge_run
from aisp_trace.traces.run import load_run

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "traces" / "samples" / "h200_pipeline_sequential"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The README's table of results by its first column."""
    section = README.split("## What it measured", 1)[1].split("\n## ", 1)[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in cells}


def test_the_times_and_the_speedup(rows: dict[str, list[str]]) -> None:
    made = load_run(SAMPLE).manifest
    rounds = made.rounds
    times = {
        name: [next(v.iterations_ns for v in r.result.variants if v.name == name) for r in rounds]
        for name in ("baseline", "optimized", "cuda_graph")
    }
    for cell, name in zip(rows["speedup"][1:], ("optimized", "cuda_graph"), strict=True):
        ratio = median_interval(ratio_sample(times["baseline"], times[name]).mean, made.looks)
        assert ratio.low is not None
        assert ratio.high is not None
        assert cell == f"{ratio.value:.2f}x, between {ratio.low:.2f}x and {ratio.high:.2f}x"
    for cell, name in zip(rows["one iteration (mean, median of the rounds)"], times, strict=True):
        middle = median_interval([sum(t) / len(t) / 1e6 for t in times[name]]).value
        assert cell == f"{middle:.4g} ms"


def test_the_copies_and_the_device(rows: dict[str, list[str]]) -> None:
    found = analyses_of_run(load_run(SAMPLE))
    assert list(found) == ["baseline", "optimized", "cuda_graph"]
    for i, analysis in enumerate(found.values()):
        copies = analysis.overlap.filter(
            pl.col("stage").is_null() & (pl.col("a") == "copy") & (pl.col("b") == "compute")
        )
        assert rows["copies hidden under compute"][i] in (f"{copies['hidden'][0]:.1%}".replace("%", " %"), "0 %")
        for direction, row in (("h2d", "host to device"), ("d2h", "device to host")):
            link = analysis.bandwidth.filter(pl.col("kind") == direction)
            rate = int(link["nbytes"].sum()) / int(link["sum_ns"].sum())
            assert rows[row][i].startswith(f"{rate:.2f} GB/s")
            assert ("effective" in rows[row][i]) == link["effective"].all()
            if not link["effective"].all():
                assert f", {link['share'][0]:.1%}".replace("%", " %") in rows[row][i]
        window = analysis.windows.row(0, named=True)
        busy = analysis.devices["busy_ns"][0] / (window["end_ns"] - window["start_ns"])
        assert rows["device busy"][i] == f"{busy:.1%}".replace("%", " %")
    assert analyses_hidden(found["baseline"]) == 0


def analyses_hidden(analysis: Any) -> int:
    return int(analysis.overlap["both_ns"].sum())


def test_every_claim_is_met_by_expectations_of_an_earlier_run() -> None:
    run = load_run(SAMPLE)
    judged = judge_run(run, analyses_of_run(run), ROOT / "expectations")
    assert {v.status for v in judged.verdicts} == {"met"}
    assert {v.variant for v in judged.verdicts} == {"baseline", "optimized", "cuda_graph"}
    assert len(judged.verdicts) == 17
    measured = [v for v in judged.verdicts if v.source.kind == "measured"]
    assert measured
    assert all(v.source.run != run.manifest.run_id for v in measured)


def test_a_wrong_output_or_less_work_in_it_is_refused(tmp_path: Path) -> None:
    """The recorded run with one thing changed: the judge must not be fooled."""
    for change, said in (("output", "output"), ("work", "work"), ("bytes", "bytes")):
        folder = tmp_path / change
        for file in SAMPLE.rglob("*"):
            if file.is_file():
                target = folder / file.relative_to(SAMPLE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        manifest = json.loads((folder / "manifest.json").read_text())
        results = [r["result"] for r in manifest["rounds"]] + [v["recording"]["result"] for v in manifest["variants"]]
        for result in results:
            for variant in result["variants"]:
                if variant["name"] == "optimized":
                    if change == "output":
                        variant["output"] |= {"error": 0.5, "ok": False}
                    elif change == "work":
                        variant["work"]["items"] //= 2
                    else:
                        variant["work"]["moved_bytes"]["h2d"] //= 2
        (folder / "manifest.json").write_text(json.dumps(manifest))
        run = load_run(folder)
        judged = judge_run(run, analyses_of_run(run), ROOT / "expectations")
        about_optimized = [v for v in judged.verdicts if v.variant == "optimized" and v.status != "unrecorded"]
        assert about_optimized
        assert {v.status for v in about_optimized} == {"invalid"}, change
        assert all(said in v.reason for v in about_optimized), [v.reason for v in about_optimized]


@pytest.mark.parametrize("command", ["analyze", "check"])
def test_the_first_screen_is_what_the_commands_print(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    shown = README.split(f"    $ aisp-trace {command} ", 1)[1].split("\n")
    printed = []
    for line in shown[1:]:
        if line and not line.startswith("    "):
            break
        printed.append(line.removeprefix("    "))
    assert main([command, shown[0]]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(printed) > 3
    assert [line for line in printed if line not in out] == []


def test_the_readmes_python_runs_as_printed() -> None:
    block = README.split("`.to_pandas()`:", 1)[1].split("## ", 1)[0]
    code = "\n".join(re.sub("^    ", "", line) for line in block.splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "launch_latency" in done.stdout or "ns" in done.stdout
