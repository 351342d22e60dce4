"""Which recorder is taken, and what is said when none or another one works."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from aisp_trace.capture import recorders
from aisp_trace.capture.nsight import Importer, Nsys
from aisp_trace.capture.recorders import choose_recorder
from aisp_trace.capture.torch_runs import TorchRecorder
from aisp_trace.traces.errors import RecorderError, UsageError

WORKING = Nsys(Path("/x/nsys"), "2025.3.1", frozenset(), Importer(Path("/x/QdstrmImporter"), None), linked=True)
LACKING = Nsys(Path("/x/nsys"), "2025.3.1", frozenset(), None, linked=False)


def machine(monkeypatch: pytest.MonkeyPatch, nsys: Nsys | None, *packages: str) -> None:
    """A machine with this nsys and these packages."""
    monkeypatch.setattr(recorders, "find_nsys", lambda: nsys)
    monkeypatch.setattr(recorders, "package_versions", lambda: dict.fromkeys(packages, "1.0"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in packages else None)


def test_nsys_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, WORKING, "nvtx", "torch")
    recorder, notes = choose_recorder("auto", profile="minimal", device="cpu")
    assert recorder is not None
    assert (recorder.name, recorder.version, notes) == ("nsys", "2025.3.1", ())


@pytest.mark.parametrize(
    ("nsys", "packages", "why"),
    [
        (None, ("torch", "nvtx"), "nsys was not found; install Nsight Systems"),
        (LACKING, ("torch", "nvtx"), "has no QdstrmImporter beside it"),
        (WORKING, ("torch",), "the package nvtx is not installed"),
    ],
)
def test_torch_stands_in_and_says_why(
    nsys: Nsys | None, packages: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, nsys, *packages)
    recorder, notes = choose_recorder("auto", profile="minimal", device="cpu")
    assert isinstance(recorder, TorchRecorder)
    assert len(notes) == 1
    assert why in notes[0]
    with pytest.raises(RecorderError, match=why):
        choose_recorder("nsys", profile="minimal", device="cpu")


def test_no_recorder_at_all_is_one_sentence_with_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, None)
    with pytest.raises(RecorderError, match=r"no recorder works here: nsys was not found; .*; or install torch"):
        choose_recorder("auto", profile="minimal", device="cpu")
    with pytest.raises(RecorderError, match="torch is not installed"):
        choose_recorder("torch", profile="minimal", device="cpu")


def test_a_foreign_command_needs_nsys_but_not_nvtx(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, WORKING, "torch")
    recorder, _ = choose_recorder("auto", profile="minimal", device="cpu", foreign=True)
    assert recorder is not None
    assert recorder.name == "nsys"


def test_a_foreign_command_is_recorded_by_torch_where_nsys_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its own Python has torch is seen when it runs."""
    machine(monkeypatch, None)
    recorder, notes = choose_recorder("auto", profile="minimal", device="cpu", foreign=True)
    assert isinstance(recorder, TorchRecorder)
    assert recorder.version == "unknown" and "nsys was not found; install Nsight Systems" in notes[0]
    assert choose_recorder("torch", profile="minimal", device="cpu", foreign=True) == (recorder, ())
    with pytest.raises(UsageError, match="--profile deep was given with --recorder torch"):
        choose_recorder("torch", profile="deep", device="cpu", foreign=True)


def test_what_only_nsys_can_do_is_not_quietly_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, None, "torch", "nvtx")
    with pytest.raises(RecorderError, match="profile deep needs nsys"):
        choose_recorder("auto", profile="deep", device="cpu")
    with pytest.raises(RecorderError, match="nsys was not found"):
        choose_recorder("auto", profile="minimal", device="cpu", nsys_args=["--sample=cpu"])
    with pytest.raises(UsageError, match="--nsys-arg was given with --recorder torch"):
        choose_recorder("torch", profile="minimal", device="cpu", nsys_args=["--sample=cpu"])


def test_timings_need_no_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, None)
    assert choose_recorder("auto", profile="none", device="cpu") == (None, ())


def test_an_unknown_recorder_is_refused() -> None:
    with pytest.raises(UsageError, match="recorder 'perf' does not exist"):
        choose_recorder("perf", profile="minimal", device="cpu")
