"""All workloads through the product's own commands: recorded at size tiny, judged, and refused where they are broken.

Recorded once each, by nsys where it is installed, else by torch's profiler. What is refused is such a recording with the
optimized variant's answers replaced by those of a broken one.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from aisp_trace.cli.main import main
from aisp_trace.expectations.claims.load import PACKAGE_DIR, load_file
from aisp_trace.expectations.model import MechanismClaim
from aisp_trace.tests.broken_workloads import answer
from aisp_trace.traces.run import MANIFEST, ProcessResult, VariantResult, load_run, write_json
from aisp_trace.workloads.catalog import CATALOG

CLAIMS = [c for c in load_file(PACKAGE_DIR / "expectations_any.json").claims if isinstance(c, MechanismClaim)]
SIZE = "tiny"
ITERATIONS = "10"
"""As many as a fraction is judged on."""

BROKEN = {
    "wrong output": "differs from the float64",
    "hidden less work": "output elements unwritten",
    "admitted less work": "states other required work than its problem: items",
    "mispredicted bytes": "h2d bytes per iteration, but its trace shows",
}

BY_DEFAULT = ("pipeline_sequential",)
"""One with threads; the others take six minutes and run nightly; each program has a test file of its own."""

workloads = pytest.mark.parametrize(
    "workload",
    [pytest.param(e.name, marks=() if e.name in BY_DEFAULT else pytest.mark.nightly) for e in CATALOG],
)


@pytest.fixture(scope="module", autouse=True)
def loopback() -> Any:
    """gloo asks for the address of this host's name, which need not have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        yield


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a workload, captured when it is first asked for: the variants that claims are about."""
    folders: dict[str, Path] = {}

    def run_of(workload: str) -> Path:
        if workload not in folders:
            folders[workload] = capture(workload, tmp_path_factory.mktemp(workload))
        return folders[workload]

    return run_of


def capture(workload: str, output: Path) -> Path:
    """A run as a person makes one."""
    named = {name for c in CLAIMS if c.workload == workload for name in ("baseline", c.variant, c.against)}
    variants = next(e.variant_names for e in CATALOG if e.name == workload)
    options = [word for name in variants if name in named for word in ("--variant", name)]
    options += ["--size", SIZE, "--device", "cpu", "--rounds", "1", "--iterations", ITERATIONS, "--output", str(output)]
    assert main(["capture", workload, *options]) == 0
    (folder,) = output.glob("[!.]*")
    return folder


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]]]:
    """`check --json`: the exit code, and the verdicts."""
    capsys.readouterr()
    code = main(["check", str(folder), "--expectations", str(PACKAGE_DIR), "--json"])
    verdicts: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["verdicts"]
    return code, verdicts


@workloads
def test_every_mechanism_claim_of_this_size_is_met(
    workload: str, captured: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, verdicts = check(captured(workload), capsys)
    judged = [c for c in CLAIMS if c.workload == workload and c.size in (None, SIZE)]
    assert len(judged) >= 3
    # torch's profiler records rank 0 alone, so that what depends on the other rank cannot be judged.
    one_rank = workload == "ddp_overlap" and load_run(captured(workload)).manifest.recorder == "torch"
    refused = {c.id for c in judged if one_rank and c.of == "comm|compute"}
    # Times and other sizes are claimed elsewhere.
    expected = {c.id: "invalid" if c.id in refused else "met" for c in judged}
    reasons = {v["reason"] for v in verdicts if v["verdict"] not in ("met", "unrecorded")}
    assert {v["claim"]: v["verdict"] for v in verdicts if v["verdict"] != "unrecorded"} == expected, "; ".join(reasons)
    assert code == (3 if refused else 0)


@workloads
def test_the_run_says_who_recorded_it_and_all_outputs_are_right(workload: str, captured: Callable[[str], Path]) -> None:
    manifest = load_run(captured(workload)).manifest
    assert manifest.recorder in ("nsys", "torch")
    assert len(manifest.variants) >= 2
    for variant in manifest.variants:
        assert variant.recording is not None
        assert variant.recording.result is not None
        (result,) = variant.recording.result.variants
        assert result.output.ok
        assert len(result.iterations_ns) == int(ITERATIONS)


@workloads
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_variant_is_refused(
    kind: str, workload: str, captured: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replaced(captured(workload), tmp_path / "run", answer(workload, kind))
    code, verdicts = check(broken, capsys)
    about = [v for v in verdicts if v["variant"] == "optimized" and v["verdict"] != "unrecorded"]
    assert about
    for verdict in about:
        assert verdict["verdict"] == "invalid", verdict
        assert BROKEN[kind] in verdict["reason"]
    assert code == 3


def replaced(run: Path, folder: Path, optimized: VariantResult) -> Path:
    """A copy of `run` in which every process answers `optimized` of that variant."""
    shutil.copytree(run, folder)
    manifest = load_run(folder).manifest

    def process(result: ProcessResult) -> ProcessResult:
        own = [optimized if v.name == optimized.name else v for v in result.variants]
        return dataclasses.replace(result, variants=own)

    rounds = [dataclasses.replace(r, result=process(r.result)) for r in manifest.rounds]
    variants = []
    for variant in manifest.variants:
        assert variant.recording is not None
        assert variant.recording.result is not None
        recording = dataclasses.replace(variant.recording, result=process(variant.recording.result))
        variants.append(dataclasses.replace(variant, recording=recording))
    write_json(folder / MANIFEST, dataclasses.replace(manifest, rounds=rounds, variants=variants))
    return folder
