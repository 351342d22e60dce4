"""Which recorder is taken, and what is said when none or another one works."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from aisp_trace.capture import recorders
from aisp_trace.capture.environments import Environment, environment_of
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


OLD_NSYS = Nsys(Path("/x/nsys"), "2023.4.1", frozenset(), Importer(Path("/x/QdstrmImporter"), None), linked=True)


@pytest.mark.parametrize(
    ("nsys", "environments", "taken", "why"),
    [
        (WORKING, [Environment("/e/python", "0.2.11", "2.8")], "nsys", ""),
        (
            WORKING,
            [Environment("/e/python", None, "2.8")],
            "torch",
            "(/e/python) lacks the package nvtx, without which",
        ),
        (WORKING, [Environment("/e/python", "0.2.16", "2.8")], "nsys", ""),
        (
            OLD_NSYS,
            [Environment("/e/python", "0.2.16", "2.8")],
            "torch",
            "nvtx 0.2.16, whose ranges nsys 2023.4.1 does not",
        ),
        (OLD_NSYS, [Environment("/e/python", "0.2.11", "2.8")], "nsys", ""),
        (WORKING, [None], "nsys", ""),
        (
            WORKING,
            [Environment("/e/python", None, "2.8"), Environment("/f/python", "0.2.11", "2.8")],
            "torch",
            "/e/python",
        ),
        (WORKING, [Environment("/e/python", None, "2.8"), Environment("/f/python", "0.2.11", None)], "nsys", ""),
        (WORKING, [Environment("/e/python", None, "2.8"), None], "nsys", ""),
    ],
)
def test_auto_takes_what_sees_the_program_of_its_own_environment(
    nsys: Nsys, environments: list[Environment | None], taken: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, nsys, "torch", "nvtx")
    monkeypatch.setattr(recorders, "environment_of", lambda command: environments[int(command[0])])
    programs = [(str(i),) for i in range(len(environments))]
    recorder, notes = choose_recorder("auto", profile="minimal", device="cpu", foreign=True, programs=programs)
    assert recorder is not None and recorder.name == taken
    assert why in "".join(notes) and bool(why) == bool(notes)
    for asked in ({"nsys_args": ["--sample=cpu"]}, {"profile": "deep"}):
        said = {"profile": "minimal", "device": "cpu", "foreign": True, "programs": programs} | asked
        recorder, notes = choose_recorder("auto", **said)  # type: ignore[arg-type]
        assert recorder is not None and (recorder.name, notes) == ("nsys", ()), "nsys was asked for"


def test_what_nothing_here_would_record_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, WORKING, "torch", "nvtx")
    monkeypatch.setattr(recorders, "environment_of", lambda command: Environment("/e/python", None, None))
    with pytest.raises(
        RecorderError, match=r"nothing would be recorded: .*run `/e/python -m pip install nvtx==0.2.11`"
    ):
        choose_recorder("auto", profile="minimal", device="cpu", foreign=True, programs=[("a",)])
    for device, programs in (
        ("cuda", [("a",)]),
        ("cpu", [("a",), ("b",)]),
    ):  # kernels are seen; a pair is at least timed
        recorder, _ = choose_recorder("auto", profile="minimal", device=device, foreign=True, programs=programs)
        assert recorder is not None and recorder.name == "nsys"


def test_a_workload_is_not_given_to_an_nsys_that_does_not_record_its_nvtx(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, OLD_NSYS, "torch", "nvtx")  # nvtx 1.0, as `machine` has it
    recorder, notes = choose_recorder("auto", profile="minimal", device="cpu")
    assert isinstance(recorder, TorchRecorder)
    assert "this Python has nvtx 1.0, whose ranges nsys 2023.4.1 does not record: pip install" in notes[0]


def test_the_environment_of_a_command_is_that_of_its_python(tmp_path: Path) -> None:
    found = environment_of([sys.executable, "-u", "train.py"])
    assert found is not None and (found.python, bool(found.nvtx)) == (sys.executable, True)
    assert environment_of([sys.executable, "-u", "-S", "train.py"]) == Environment(sys.executable, None, None)
    launcher = tmp_path / "launch"
    launcher.write_text(f"#!{sys.executable}\nprint(1)\n", encoding="utf-8")
    launcher.chmod(0o755)
    assert environment_of([str(launcher), "train.py"]) == found
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    assert [environment_of([word]) for word in (str(broken), "sh", "/no/such/python", "")] == [None] * 4
