"""What ``import aisp_trace`` offers: lazily, with strings as paths, and with a short `repr`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aisp_trace
from aisp_trace.analyze.document import document
from aisp_trace.cli.main import main
from aisp_trace.report.documents.text import json_text
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.run import load_run

SAMPLES = Path(__file__).resolve().parents[1] / "traces" / "samples"
DECODE = str(SAMPLES / "h100_pipeline_decode.sqlite.xz")
LADDER = str(SAMPLES / "h200_pipeline_sequential")
NAMES = {
    *("open", "analyze", "compare", "check", "predict", "figure", "frame", "from_tables"),
    *("stage", "iteration", "measured", "state_work", "__version__"),
}


def test_every_name_is_offered_and_listed() -> None:
    assert set(aisp_trace.OFFERED) == NAMES
    assert set(dir(aisp_trace)) >= NAMES
    for name in NAMES - {"__version__"}:
        assert callable(getattr(aisp_trace, name)), name
        assert getattr(aisp_trace, name).__doc__
    assert aisp_trace.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="has no attribute 'anlyze'"):
        aisp_trace.anlyze  # noqa: B018


@pytest.mark.parametrize(
    ("used", "allowed"),
    [
        ("0", set()),
        ("aisp_trace.__version__", set()),
        ("aisp_trace.stage('x')", set()),
        ("aisp_trace.analyze", set()),
        ("aisp_trace.open", {"polars", "numpy", "rich"}),
        ("aisp_trace.compare", {"polars", "numpy", "rich", "pydantic"}),
        ("aisp_trace.figure", {"polars", "numpy", "rich", "pydantic"}),
    ],
)
def test_only_what_is_asked_for_is_imported(used: str, allowed: set[str]) -> None:
    program = f"import sys, aisp_trace; {used}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "nvtx", "polars", "numpy", "numba", "pandas", "plotly", "pyarrow", "rich", "typer", "pydantic"}
    assert set(done.stdout.split()) & heavy <= allowed


@pytest.mark.parametrize("first", ["", "import aisp_trace.analyze.analyze", "from aisp_trace.analyze import result"])
def test_analyze_is_callable_whatever_was_imported_before(first: str) -> None:
    program = f"{first}\nimport aisp_trace\nprint(aisp_trace.analyze({DECODE!r}))\nprint(aisp_trace.analyze.__name__)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "aisp_trace.analyze"


def test_analyze_says_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", DECODE, "--json", "--window", "decode#0"]) == 0
    said = capsys.readouterr().out
    assert json_text(document([aisp_trace.analyze(DECODE, window="decode#0")])) == said.rstrip("\n")
    trace = aisp_trace.open(DECODE)
    assert json_text(document([aisp_trace.analyze(trace, window="decode#0")])) == said.rstrip("\n")


def test_a_variant_of_a_run_is_named_as_on_the_command_line() -> None:
    assert aisp_trace.analyze(f"{LADDER}:optimized").variant == "optimized"
    assert aisp_trace.open(f"{LADDER}:optimized").ops.height == aisp_trace.open(f"{LADDER}/optimized").ops.height
    with pytest.raises(UsageError, match="has several variants"):
        aisp_trace.open(LADDER)


def test_compare_takes_runs_and_variants() -> None:
    ladder = aisp_trace.compare(LADDER)
    pair = aisp_trace.compare(f"{LADDER}:baseline", f"{LADDER}:optimized")
    assert ladder.mode == "ladder" and pair.mode == "pair"
    (step,) = (c for c in ladder.comparisons if (c.base.name, c.opt.name) == ("baseline", "optimized"))
    assert pair.comparisons[0].waterfall.difference == step.waterfall.difference


def test_repr_is_one_short_line() -> None:
    for value in (
        aisp_trace.open(DECODE),
        aisp_trace.analyze(DECODE),
        aisp_trace.compare(LADDER),
        load_run(Path(LADDER)),
    ):
        text = repr(value)
        assert text.startswith("<") and len(text) < 400 and text.isprintable(), text
