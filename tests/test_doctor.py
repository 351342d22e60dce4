"""The diagnosis: what works here is really tried, what is missing comes with its remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aisp_trace.capture import doctor, host
from aisp_trace.capture.doctor import diagnose
from aisp_trace.capture.nsight import Importer, Nsys, find_nsys
from aisp_trace.cli.main import main

WORKING = Nsys(Path("/x/nsys"), "2022.4.2", frozenset(), Importer(Path("/x/QdstrmImporter"), None), linked=True)
LACKING = Nsys(Path("/x/nsys"), "2022.4.2", frozenset(), None, linked=False)
TORCH = {"version": "2.13.0+cpu", "built_for": None, "gpus": 0}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without nsys, torch or a GPU, to which tests add."""
    monkeypatch.setattr(doctor, "find_nsys", lambda: None)
    monkeypatch.setattr(doctor, "_torch_answer", lambda: None)
    monkeypatch.setattr(host, "visible_gpus", list)
    monkeypatch.setattr(host, "package_versions", lambda: {"nvtx": "0.2.16"})
    return monkeypatch


def missing(diagnosis: doctor.Diagnosis) -> dict[str, str]:
    """Remedies of what is missing, by name."""
    return {f.name: f.remedy for f in diagnosis.findings if f.status == "missing"}


def test_nothing_installed_names_every_remedy_and_leaves_with_3(
    machine: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remedies = missing(diagnose())
    assert set(remedies) == {"recorder", "nsys", "importer", "nvtx and nsys", "torch", "gpu"}
    assert all(remedies.values())
    assert "scripts/install-nsys-debian.sh" in remedies["nsys"]
    assert main(["doctor"]) == 3
    out = capsys.readouterr().out
    assert "missing  recorder" in out
    assert "-> pip install 'aisp-trace[workloads]'" in out


def test_torch_alone_is_a_recorder(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "_torch_answer", lambda: TORCH)
    diagnosis = diagnose()
    assert diagnosis.recorder == "torch"
    assert set(missing(diagnosis)) == {"nsys", "importer", "nvtx and nsys", "gpu"}
    assert main(["doctor"]) == 0


def test_nsys_that_records_is_the_recorder(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "find_nsys", lambda: WORKING)
    diagnosis = diagnose(lambda nsys: None)
    assert diagnosis.recorder == "nsys"
    assert set(missing(diagnosis)) == {"torch", "gpu"}


def test_nsys_and_nvtx_that_do_not_fit_are_told_by_recording(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "find_nsys", lambda: WORKING)
    diagnosis = diagnose(lambda nsys: "take another nvtx")
    assert diagnosis.recorder is None
    assert missing(diagnosis)["nvtx and nsys"] == "take another nvtx"


def test_a_missing_importer_is_named_and_nothing_is_recorded(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "find_nsys", lambda: LACKING)

    def never(nsys: Nsys) -> str | None:
        raise AssertionError("recorded without an importer")

    remedies = missing(diagnose(never))
    assert "has no QdstrmImporter beside it" in remedies["importer"]
    assert "nsys" not in remedies


def test_a_gpu_that_torch_cannot_use_is_told(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(doctor, "_torch_answer", lambda: TORCH)
    machine.setattr(host, "visible_gpus", lambda: [{"name": "NVIDIA H200", "driver": "580.95.05"}])
    diagnosis = diagnose()
    assert diagnosis.hardware_key == "h200"
    assert missing(diagnosis)["gpu"] == "install a CUDA build of torch"


def test_this_machine_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is faked: where nsys can make reports, a range must have been recorded, or the remedy be given."""
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "aisp-trace/doctor/1"
    by_name = {finding["name"]: finding for finding in document["findings"]}
    assert list(by_name) == [
        "recorder",
        "nsys",
        "importer",
        "nvtx and nsys",
        "torch",
        "gpu",
        "cpu samples",
        "earlier captures",
        "hardware key",
    ]
    assert all((f["status"] != "ok") == bool(f["remedy"]) for f in by_name.values())
    assert code == (0 if document["recorder"] else 3)
    assert (by_name["nsys"]["status"] == "ok") == (find_nsys() is not None)
    assert (document["recorder"] == "nsys") == (by_name["nvtx and nsys"]["status"] == "ok")


@pytest.mark.parametrize("installed", [True, False])
def test_a_gpu_says_whether_its_clocks_are_recorded(installed: bool, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(host, "visible_gpus", lambda: [{"name": "NVIDIA H200", "index": "0", "uuid": "x", "driver": "1"}])
    machine.setattr(doctor, "find_spec", lambda name: name if installed else None)
    (gpu,) = (f for f in diagnose().findings if f.name == "gpu")
    assert gpu.status == "ok"
    assert ("pip install nvidia-ml-py" in gpu.found) is not installed
