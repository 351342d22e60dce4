"""Host facts read off text: GPU lists, hardware keys, processor names, the sources' commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aisp_trace.capture import host
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.hardware_key import hardware_key, is_vague, named, processor, same_kind

TWO = """0, GPU-aaa-1, 580.95.05, NVIDIA H200
1, GPU-bbb-2, 580.95.05, NVIDIA H200
"""


@pytest.mark.parametrize(
    ("gpus", "key"),
    [
        (["NVIDIA H200"], "h200"),
        (["NVIDIA H200"] * 2, "2x_h200"),
        (["NVIDIA H100 80GB HBM3"], "h100_80gb_hbm3"),
        (["NVIDIA H200", "NVIDIA A100-SXM4-40GB"], "a100_sxm4_40gb_and_h200"),
        ([], "cpu_amd_epyc"),
    ],
)
def test_hardware_keys(gpus: list[str], key: str) -> None:
    assert hardware_key(gpus, "AMD EPYC") == key


@pytest.mark.parametrize(
    ("cpu", "vague"),
    [
        ("AMD EPYC", True),
        ("Intel Xeon", True),
        ("Intel Xeon Processor (Skylake, IBRS)", True),
        ("AMD EPYC-Milan 64-Core", True),
        ("QEMU Virtual version 2.5+", True),
        ("Common KVM processor", True),
        ("x86_64", True),
        ("aarch64", True),
        ("AMD EPYC 9654 96-Core", False),
        ("Intel Xeon Platinum 8481C", False),
        ("AMD EPYC 7B13", False),
        ("Intel Core i7-9700K", False),
        ("Apple M1", False),
        ("AMD EPYC [build_7]", False),
    ],
)
def test_a_processor_is_vague_where_its_name_has_no_model(cpu: str, vague: bool) -> None:
    assert is_vague(cpu) == vague


@pytest.mark.parametrize(
    ("cpu", "other", "hint"),
    [
        ("AMD EPYC", "cpu_amd_epyc_gate_2core", "set AISP_MACHINE=gate_2core in"),
        ("AMD EPYC [build_7]", "cpu_amd_epyc_gate_2core", "set AISP_MACHINE=gate_2core in"),
        ("AMD EPYC [build_7]", "cpu_amd_epyc", "leave AISP_MACHINE unset in"),
        ("AMD EPYC [build]", "cpu_amd_epyc_build_7", "set AISP_MACHINE=build_7 in"),
        ("Intel Xeon Gold 6230", "cpu_intel_xeon", ""),  # no name of a user's to leave out
        ("AMD EPYC", "cpu_amd_epycs", ""),
        ("AMD EPYC", "h200", ""),
        ("AMD EPYC", "cpu_amd_epyc_" + "x" * 33, ""),
    ],
)
def test_what_gives_a_machine_anothers_key(cpu: str, other: str, hint: str) -> None:
    found = same_kind(hardware_key([], cpu), cpu, other)
    assert found.startswith(hint) and (found == "") == (hint == "")
    if "=" in hint:
        assert hardware_key([], named(processor(cpu), hint.partition("=")[2].split()[0])) == other
    assert same_kind("h200", cpu, other) == "", "a GPU's key has no such name"


def test_a_machine_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "cpu_model", lambda: "AMD EPYC")
    monkeypatch.setenv("AISP_MACHINE", "Build 7")
    found = host.hardware("cpu")
    assert (found.cpu, found.key, processor(found.cpu)) == ("AMD EPYC [build_7]", "cpu_amd_epyc_build_7", "AMD EPYC")
    assert hardware_key([], found.cpu) == found.key
    for wrong in ("/", "x" * 33):
        monkeypatch.setenv("AISP_MACHINE", wrong)
        with pytest.raises(UsageError, match="AISP_MACHINE is '"):
            host.hardware("cpu")
    monkeypatch.setenv("AISP_MACHINE", "")
    assert host.hardware("cpu").key == "cpu_amd_epyc"


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("GPU-bbb", ["1"]),
        ("0,9,1", ["0"]),  # CUDA ignores everything from the first invalid entry on
    ],
)
def test_cuda_visible_devices_hides_gpus_as_cuda_does(visible: str | None, indices: list[str]) -> None:
    assert [gpu["index"] for gpu in host.parse_gpus(TWO, visible)] == indices


def test_a_gpu_list_that_is_none_is_empty() -> None:
    assert host.parse_gpus("NVIDIA-SMI has failed because it couldn't communicate with the driver\n", None) == []


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("model name\t: AMD EPYC\n", "AMD EPYC"),
        ("model name\t: Intel(R) Xeon(R) CPU @ 2.70GHz\n", "Intel Xeon"),
        ("model name\t: AMD EPYC 9654 96-Core Processor\n", "AMD EPYC 9654 96-Core"),
    ],
)
def test_processor_names_lose_their_ornaments(line: str, model: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}", encoding="utf-8")
    assert host.cpu_model(tmp_path / "cpuinfo") == model


def test_a_processor_without_a_name_is_its_architecture(tmp_path: Path) -> None:
    assert host.cpu_model(tmp_path / "absent")


def git(folder: Path, *args: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, capture_output=True)


def test_git_state_of_a_repository_a_folder_in_it_and_none(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    inner = repo / "inner"
    inner.mkdir(parents=True)
    git(repo, "init", "-q")
    (repo / "file").write_text("1", encoding="utf-8")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "one")
    clean = host.git_state(repo, root=True, environ={})
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    assert clean["changed"] == []
    (repo / "file").write_text("2", encoding="utf-8")
    changed = {"commit": clean["commit"], "dirty": True, "changed": ["file"]}
    assert host.git_state(inner, root=False, environ={}) == changed
    unknown = {"commit": None, "dirty": None}
    assert host.git_state(inner, root=True, environ={}) == unknown
    assert host.git_state(tmp_path, root=False, environ={}) == unknown


def test_only_tracked_files_make_a_tree_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    for i in range(12):
        (tmp_path / f"file{i:02d}.py").write_text("1", encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    (tmp_path / "aisp-runs").mkdir()
    (tmp_path / "aisp-runs" / "junit.xml").write_text("x", encoding="utf-8")
    found = host.git_state(tmp_path, root=True, environ={})
    assert (found["dirty"], found["changed"]) == (False, [])
    git(tmp_path, "mv", "file11.py", "other.py")
    assert host.git_state(tmp_path, root=True, environ={})["changed"] == ["file11.py -> other.py"]
    for i in range(11):
        (tmp_path / f"file{i:02d}.py").write_text("2", encoding="utf-8")
    found = host.git_state(tmp_path, root=True, environ={})
    assert (found["dirty"], found["changed"]) == (True, [f"file{i:02d}.py" for i in range(10)])


@pytest.mark.parametrize(("word", "dirty"), [("1", True), ("false", False), ("", None)])
def test_the_environment_may_say_the_commit(word: str, dirty: bool | None, tmp_path: Path) -> None:
    said = {"AISP_GIT_COMMIT": "abc", "AISP_GIT_DIRTY": word}
    assert host.git_state(tmp_path, root=True, environ=said) == {"commit": "abc", "dirty": dirty}


def test_versions_hold_python_and_only_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PACKAGES", ("pytest", "no-such-package-anywhere"))
    assert sorted(host.package_versions()) == ["pytest", "python"]


@pytest.mark.parametrize(("torch", "usable"), [("2.13.0+cpu", False), ("2.11.0", True)])
def test_a_cpu_build_of_torch_cannot_use_a_gpu(torch: str, usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "visible_gpus", lambda: host.parse_gpus(TWO, None))
    monkeypatch.setattr(host, "package_versions", lambda: {"torch": torch})
    assert host.cuda_usable() is usable


def test_clocks_fall_back_to_the_older_name_and_leave_no_gpu_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str]) -> str | None:
        return (
            None if "clocks_event_reasons" in command[1] else "0, 345 MHz, 1980 MHz, 3201 MHz, 700 W, 30, 75 W, 0x0\n"
        )

    monkeypatch.setattr(host, "ask", answer)
    assert host.clocks() == [
        {
            "index": "0",
            "clocks_sm": "345 MHz",
            "clocks_max_sm": "1980 MHz",
            "clocks_mem": "3201 MHz",
            "power_limit": "700 W",
            "temperature": "30",
            "power": "75 W",
            "throttle_reasons": "0x0",
        }
    ]


def test_the_sources_of_one_process_are_the_commit_and_what_tracked_files_differ_by(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    assert host.sources_of(repo, root=False, environ={}) == (None, None)
    git(repo, "init", "-q")
    (repo / "a.py").write_text("1\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "one")
    commit, tree = host.sources_of(repo, root=True, environ={})
    assert (commit, tree) == (host.git_state(repo, root=True, environ={})["commit"], "clean")
    (repo / "aisp-runs").mkdir()
    (repo / "aisp-runs" / "log").write_text("not tracked")
    assert host.sources_of(repo, root=True, environ={}) == (commit, "clean")
    trees = set()
    for text in ("2\n", "3\n", "2\n"):
        (repo / "a.py").write_text(text)
        trees.add(host.sources_of(repo, root=True, environ={}))
    assert len(trees) == 2 and (commit, "clean") not in trees
    assert host.sources_of(repo / "aisp-runs", root=True, environ={"AISP_GIT_COMMIT": "abc"}) == ("abc", None)
