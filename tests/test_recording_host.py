"""A host that only records has torch, nvtx and typer: capture works there, and what does not says why."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from aisp_trace.tests.builders.light_environment import RECORDING, absent, aisp_trace, make_environment
from aisp_trace.traces.run import load_run

ANALYSIS: Final = ("adbc_driver_sqlite", "numpy", "pandas", "plotly", "polars", "pyarrow")
"""What such a host does not have."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("light") / "environment", linked=(*RECORDING, "typer"))


def test_it_has_nothing_else(python: Path) -> None:
    assert absent(python, (*RECORDING, "typer", *ANALYSIS)) == list(ANALYSIS)


@pytest.mark.nightly
def test_it_captures_a_workload(python: Path, tmp_path: Path) -> None:
    words = ["pipeline_sequential", "--size", "tiny", "--device", "cpu", "--rounds", "1", "--iterations", "2"]
    done = aisp_trace(python, tmp_path, "capture", *words, "--recorder", "torch")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "aisp-runs").glob("[!.]*")
    manifest = load_run(folder).manifest
    assert manifest.packages["torch"] == metadata.version("torch")
    assert manifest.variants and all(v.recording is not None for v in manifest.variants)


@pytest.mark.parametrize(
    "words", [["analyze"], ["check"], ["report"], ["export", "--to", "json"], ["expectations", "show"]]
)
def test_what_it_cannot_do_is_one_sentence(words: list[str], python: Path, tmp_path: Path) -> None:
    done = aisp_trace(python, tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("aisp-trace: this command needs the package ")
