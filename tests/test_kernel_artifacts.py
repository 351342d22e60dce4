"""What is kept of a kernel: its files, what they say and do not say, and the part of it that a bundle takes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli import emitting
from aisp_trace.cli.main import main
from aisp_trace.kernels import artifacts, build, emit, space
from aisp_trace.kernels.artifacts import copy_used, digest_of, parameters_of, stamps, store_verification
from aisp_trace.kernels.tasks import find
from aisp_trace.kernels.verify import parent
from aisp_trace.tests.builders.kernel_artifacts import keep, verification
from aisp_trace.tests.builders.nsys_export import NsysExport
from aisp_trace.traces.bundle import unpack
from aisp_trace.traces.errors import InputError, UsageError
from aisp_trace.traces.run import MANIFEST

SAMPLE = Path(__file__).parents[1] / "traces" / "samples" / "h200_memory_standard"
ROOT = Path("artifacts")
SOURCE = Path("test.cu")

try:
    build.find_nvcc()
    HAS_NVCC = True
except build.KernelError:
    HAS_NVCC = False


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with an emitted source in it."""
    monkeypatch.chdir(tmp_path)
    task = find("rmsnorm")
    SOURCE.write_text(emit.source(task, {**space.defaults(task), "threads": 512}, "sm_90", "0"), encoding="utf-8")


def recording(place: Path) -> Path:
    """An nsys export with a process whose name is somebody's."""
    NsysExport().range(0, 40, "aisp.call").call(5, 8, "cudaLaunchKernel", correlationId=1).kernel(
        10, 20, correlationId=1
    ).write(place)
    return place


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_verdict_is_kept_with_all_that_it_rests_on(tmp_path: Path) -> None:
    trace = recording(tmp_path / "trace.sqlite")
    kept = keep(ROOT, SOURCE, f"ptxas info of {tmp_path}/test.cu", trace)
    sha256 = digest_of(SOURCE.read_bytes())
    assert kept == ROOT / "kernels" / "rmsnorm" / sha256[:20] / "float32-sm_90"
    beside = ["compiler.log", "provenance.json", "timings.json", "trace.sqlite", "verification.json"]
    assert files(kept.parent) == [*(f"float32-sm_90/{name}" for name in beside), "parameters.json", "source.cu"]
    assert (ROOT / "kernels" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert (kept.parent / "source.cu").read_bytes() == SOURCE.read_bytes()
    assert read(kept.parent / "parameters.json") == {**space.defaults(find("rmsnorm")), "threads": 512}
    assert read(kept / "verification.json") == json.loads(json.dumps(verification(SOURCE).document()))
    assert read(kept / "timings.json")["timings"][0]["shape"] == "rows=64,columns=32"
    provenance = read(kept / "provenance.json")
    assert {key: provenance[key] for key in ("task", "arch", "compiler", "torch", "driver", "gpu")} == {
        "task": "rmsnorm",
        "arch": "sm_90",
        "compiler": "nvcc 13.0",
        "torch": "2.11.0",
        "driver": "580.1",
        "gpu": "NVIDIA H200",
    }
    assert provenance["source_sha256"] == sha256
    assert provenance["files"] == {
        name: digest_of((kept / name).read_bytes()) for name in beside if name != "provenance.json"
    }


def test_no_file_names_a_folder_or_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my-machine")
    found = dataclasses.replace(verification(SOURCE), notes=[f"{tmp_path}/nsys of my-machine failed"])
    kept = store_verification(ROOT, SOURCE, found, f"{tmp_path}/test.cu(3): error", recording(tmp_path / "t.sqlite"))
    assert kept is not None
    for name in files(kept):
        content = (kept / name).read_bytes()
        assert str(tmp_path).encode() not in content, name
        assert b"my-machine" not in content, name


def test_what_no_gpu_said_is_not_kept() -> None:
    for status, arch in (("cannot tell", "sm_90"), ("refused", None)):
        found = verification(SOURCE, status=status)
        made = {key: value for key, value in found.made_with.items() if key != "arch" or arch}
        assert store_verification(ROOT, SOURCE, dataclasses.replace(found, made_with=made), "", None) is None
    assert not ROOT.exists()


def test_a_source_that_changed_meanwhile_is_not_kept() -> None:
    found = verification(SOURCE)
    SOURCE.write_text("// another\n", encoding="utf-8")
    with pytest.raises(InputError, match="was changed while it was verified"):
        store_verification(ROOT, SOURCE, found, "", None)


def test_a_later_verdict_replaces_the_one_of_its_kind() -> None:
    first = keep(ROOT, SOURCE, "log", recording(Path("trace.sqlite")))
    (first / "mine.txt").write_text("", encoding="utf-8")
    keep(ROOT, SOURCE, status="refused", created_utc="2026-11-30T00:00:01Z")
    keep(ROOT, SOURCE, dtype="bfloat16", created_utc="2026-11-30T00:00:02Z")
    found = [(one.dtype, one.status, one.problem) for one in stamps(ROOT, "rmsnorm")]
    assert found == [("bfloat16", "verified", ""), ("float32", "refused", "")]
    beside = ["compiler.log", "mine.txt", "provenance.json", "timings.json", "verification.json"]
    assert files(first) == beside, "the recording of another verdict is gone, a file of the user's is not"
    assert sorted(path.name for path in first.parent.iterdir()) == [
        "bfloat16-sm_90",
        "float32-sm_90",
        "parameters.json",
        "source.cu",
    ]


def test_a_file_of_another_origin_has_no_parameters() -> None:
    assert parameters_of(b"// Parameters:\n//   threads = 3\n") == {}
    assert parameters_of(b"import triton\n") == {}


def test_a_folder_that_cannot_be_written_is_named() -> None:
    ROOT.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"artifacts is a file where a folder is to be written.*--artifacts"):
        keep(ROOT, SOURCE)
    Path("other").mkdir()
    Path("other/kernels").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"artefacts cannot be kept in other/kernels/rmsnorm.*--artifacts"):
        keep(Path("other"), SOURCE)


# -- commands ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_NVCC, reason="there is no nvcc")
def test_emit_keeps_what_nvcc_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "emit", "saxpy", "-o", "out.cu", "--artifacts", "kept"]) == 0
    (folder,) = Path("kept/kernels/saxpy").iterdir()
    assert files(folder) == [
        "emitted-sm_90/compiler.log",
        "emitted-sm_90/provenance.json",
        "parameters.json",
        "source.cu",
    ]
    assert f"artefacts: {folder}/emitted-sm_90" in capsys.readouterr().out
    log = (folder / "emitted-sm_90" / "compiler.log").read_text(encoding="utf-8")
    assert log.startswith("nvcc ") and " registers" in log and "0 bytes spill stores" in log
    assert not ROOT.exists()


def test_emit_without_nvcc_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise build.NoCompilerError("there is no nvcc")

    monkeypatch.setattr(build, "find_nvcc", none)
    what = emitting.asked("saxpy", "sm_90", ())
    assert emitting._kept(SOURCE, what, ROOT) is None


@pytest.mark.parametrize("as_json", [False, True])
def test_verify_says_where_it_kept_its_verdict(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(asked: Any, say: Any) -> Any:
        recording(asked.keep)
        return verification(asked.file, dtype="bfloat16", status="refused")

    monkeypatch.setattr(parent, "verify", fake)
    monkeypatch.setattr(build, "log", lambda source, capability, compiler: f"{source.name} for {capability}")
    words = [
        "kernels",
        "verify",
        "test.cu",
        "--task",
        "rmsnorm",
        "--artifacts",
        "kept",
        *(["--json"] if as_json else []),
    ]
    assert main(words) == 1
    (folder,) = Path("kept/kernels/rmsnorm").glob("*/bfloat16-sm_90")
    printed = capsys.readouterr()
    assert f"artefacts: {folder}" in (printed.err if as_json else printed.out)
    assert (folder / "compiler.log").read_text(encoding="utf-8") == "test.cu for (9, 0)"
    assert (folder / "trace.sqlite").is_file()


def test_a_verdict_that_cannot_be_kept_stands_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overwrites(asked: Any, say: Any) -> Any:
        found = verification(asked.file, status="refused")
        asked.file.write_text("// innocent\n", encoding="utf-8")
        return found

    monkeypatch.setattr(parent, "verify", overwrites)
    monkeypatch.setattr(build, "log", lambda source, capability, compiler: "")
    assert main(["kernels", "verify", "test.cu", "--task", "rmsnorm"]) == 1
    printed = capsys.readouterr()
    assert "refused" in printed.out and "artefacts" not in printed.out
    assert "test.cu was changed while it was verified, so nothing was kept" in printed.err


def test_a_damaged_recording_is_left_out() -> None:
    Path("trace.sqlite").write_text("no database", encoding="utf-8")
    kept = keep(ROOT, SOURCE, "log", Path("trace.sqlite"), status="refused")
    assert files(kept) == ["compiler.log", "provenance.json", "timings.json", "verification.json"]


def test_a_python_candidate_is_kept_and_is_no_stamp() -> None:
    mine = Path("mine.py")
    mine.write_text("def run(inputs, outputs): ...\n", encoding="utf-8")
    kept = keep(ROOT, mine)
    assert files(kept.parent)[-1] == "source.py"
    assert stamps(ROOT, "rmsnorm") == []


# -- bundles -------------------------------------------------------------------------------------------------------


def run_with(kernels: dict[str, str], folder: Path) -> Path:
    """A recorded run whose optimized variant is said to have run these kernels."""
    shutil.copytree(SAMPLE, folder)
    manifest = read(folder / MANIFEST)
    for one in manifest["rounds"]:
        for variant in one["result"]["variants"]:
            if variant["name"] == "optimized":
                variant["kernels"] = kernels
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_a_bundle_has_the_artefacts_of_kernels_that_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = keep(ROOT, SOURCE, "log", recording(tmp_path / "trace.sqlite"))
    (kept / "notes.txt").write_text("not ours", encoding="utf-8")
    other = Path("other.cu")
    other.write_text("// not used\n", encoding="utf-8")
    keep(ROOT, other)
    used = {"rmsnorm": digest_of(SOURCE.read_bytes()), "softmax": "f" * 64}
    run = run_with(used, tmp_path / "run")
    assert main(["bundle", str(run), "-o", "out.tar.gz"]) == 0
    assert (
        f"the artefacts of softmax {'f' * 20} are not in artifacts, so the bundle lacks them" in capsys.readouterr().err
    )
    (tmp_path / "unpacked").mkdir()
    index = unpack(Path("out.tar.gz"), tmp_path / "unpacked").index
    inside = [member.path for member in index.members if member.path.startswith("kernels/")]
    expected = [name for name in files(ROOT / "kernels" / "rmsnorm" / used["rmsnorm"][:20]) if "notes" not in name]
    assert inside == sorted(f"kernels/rmsnorm/{used['rmsnorm'][:20]}/{name}" for name in expected)
    assert (tmp_path / "unpacked" / "kernels").is_dir()
    assert main(["bundle", "verify", "out.tar.gz"]) in (0, 1, 3)


def test_a_run_without_kernels_needs_no_artefacts(tmp_path: Path) -> None:
    assert copy_used(ROOT, [], tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_the_artefacts_of_a_bundle_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep(ROOT, SOURCE, "log", recording(tmp_path / "trace.sqlite"))
    whole = sum(file.stat().st_size for file in kept.parent.rglob("*") if file.is_file())
    monkeypatch.setattr(artifacts, "MOST_BUNDLED", whole - 1)
    (left,) = copy_used(ROOT, [("rmsnorm", digest_of(SOURCE.read_bytes()))], tmp_path / "out")
    assert "float32-sm_90/trace.sqlite was left out of the bundle" in left
    assert "verification.json" in " ".join(files(tmp_path / "out"))


def test_git_does_not_see_what_is_kept() -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    subprocess.run(["git", "init", "-q"], check=True)
    keep(ROOT, SOURCE)
    seen = subprocess.run(["git", "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True).stdout
    assert seen.split() == ["??", "test.cu"]
