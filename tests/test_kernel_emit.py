"""`aisp-trace kernels`: what is emitted and refused, what nvcc and NVRTC say of it, and the program without a GPU."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.kernels import build, emit, nvrtc, space
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.tests.patience import PATIENCE_S

try:
    NVCC: Path | None = build.find_nvcc()
except build.KernelError:
    NVCC = None

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")

STRICT: Final = ("-std=c++17", "-Werror", "all-warnings")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``aisp-trace kernels`` in an empty folder; answers exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["kernels", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def source_of(name: str, **changes: int | str) -> str:
    task = find(name)
    return emit.source(task, {**space.defaults(task), **changes}, "sm_90", "1.2.3")


# -- what is emitted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_same_words_make_the_same_bytes(name: str) -> None:
    text = source_of(name)
    assert text == source_of(name)
    assert emit.is_untouched_source(text.encode())
    head = text[: text.index("#ifndef")]
    task = find(name)
    assert f"`aisp-trace kernels emit {name}`, version 1.2.3" in head and "-arch=sm_90" in head
    assert all(f"//   {p.name} = {p.default}\n" in head for p in task.parameters)
    assert all(f"{o.name} {o.dtype}[" in head for o in (*task.inputs, *task.outputs))
    assert re.search(r"\b20\d\d-\d\d|/home|/tmp|/usr", text) is None, "no date, no folder"
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert "{{" not in re.sub(r"= \{+[^;]*;", "", text) and "{%" not in text
    assert text.isascii()


@pytest.mark.parametrize("name", NAMES)
def test_every_sampled_combination_renders_and_says_so(name: str) -> None:
    task = find(name)
    found = list(space.combinations(task))
    for settings in random.Random(5).sample(found, min(len(found), 24)):
        text = emit.source(task, settings, "sm_90", "0")
        assert all(f"//   {word} = {value}\n" in text for word, value in settings.items())
        described = re.search(r"aisp_describe\(void\) \{\s+return (\".*\");", text)
        assert described is not None
        facts = json.loads(json.loads(described[1]))
        assert facts["parameters"] == settings and facts["task"] == name


def test_an_edit_is_noticed() -> None:
    text = source_of("saxpy")
    for edited in (text.replace("kA * ", "kA + ", 1), text + "\n", text[:-1], text.replace("Sum: ", "Sum: 0", 1)):
        assert not emit.is_untouched_source(edited.encode())
    assert not emit.is_untouched_source(b"") and not emit.is_untouched_source(b"// Sum: 0\n")


def test_emitting_needs_no_torch() -> None:
    program = (
        "import sys; from aisp_trace.kernels import emit, space; from aisp_trace.kernels.tasks import NAMES, find\n"
        "for task in map(find, NAMES): emit.source(task, space.defaults(task), 'sm_90', '0')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- the command -----------------------------------------------------------------------------------------------------


def test_a_file_and_a_makefile_are_written_and_written_again(call: Call, tmp_path: Path) -> None:
    code, out, err = call("emit", "saxpy", "-o", "test.cu", "--no-compile", "--set", "threads=512", "--arch", "sm_80")
    assert (code, out, err) == (0, "test.cu\nMakefile\n", "")
    first = (tmp_path / "test.cu").read_text(encoding="utf-8")
    assert "constexpr int kThreads = 512;" in first
    assert "ARCH ?= sm_80\n" in (tmp_path / "Makefile").read_text(encoding="utf-8")
    assert call("emit", "saxpy", "-o", "test.cu", "--no-compile")[0] == 0
    assert "constexpr int kThreads = 256;" in (tmp_path / "test.cu").read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Makefile", "test.cu"]


def test_standard_output_gets_the_source_alone(call: Call, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "aisp_trace.cli", "kernels", "emit", "saxpy", "-o", "-"],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert emit.is_untouched_source(done.stdout)
    assert b"Nothing was compiled" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rmsnrm"], "no kernel task is called 'rmsnrm'; did you mean 'rmsnorm'?"),
        (["zzz"], "no kernel task is called 'zzz'; tasks are saxpy, rmsnorm, "),
        (["saxpy", "--set", "thread=256"], "no parameter of saxpy is called 'thread'; did you mean 'threads'?"),
        (["saxpy", "--set", "zzz=1"], "no parameter of saxpy is called 'zzz'; parameters are vector_bytes, "),
        (["saxpy", "--set", "threads"], "--set threads has no value; write it as NAME=VALUE"),
        (["saxpy", "--set", "threads=100"], "threads of saxpy cannot be '100'; its values are 128, 256, 512, 1024"),
        (
            ["rmsnorm", "--set", "threads=1024", "--set", "items=8"],
            "these values of rmsnorm do not go together: half of",
        ),
        (["saxpy", "--arch", "hopper"], "--arch hopper is not an architecture; write it like sm_90"),
        (["saxpy", "--arch", "sm_90a"], "--arch sm_90a is not an architecture; write it like sm_90"),
    ],
)
def test_what_does_not_exist_is_refused(words: list[str], says: str, call: Call, tmp_path: Path) -> None:
    code, out, err = call("emit", *words, "-o", "test.cu")
    assert (code, out) == (2, "") and err.startswith(f"aisp-trace: {says}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_or_was_edited_is_not_replaced(call: Call, tmp_path: Path) -> None:
    kernel, makefile = tmp_path / "test.cu", tmp_path / "Makefile"
    kernel.write_text("mine", encoding="utf-8")
    assert "test.cu exists and is not a kernel that aisp-trace emitted" in call("emit", "saxpy", "-o", "test.cu")[2]
    assert not makefile.exists() and kernel.read_text(encoding="utf-8") == "mine"
    kernel.unlink()
    makefile.write_text("all:\n", encoding="utf-8")
    code, _, err = call("emit", "saxpy", "-o", "test.cu")
    assert code == 2 and "choose another name with -o FOLDER/NAME.cu, or replace it with --force" in err
    assert not kernel.exists()
    assert call("emit", "saxpy", "-o", "test.cu", "--no-compile", "--force")[0] == 0
    edited = kernel.read_text(encoding="utf-8").replace("2.5f", "2.25f")
    kernel.write_text(edited, encoding="utf-8")
    assert call("emit", "saxpy", "-o", "test.cu")[0] == 2
    assert kernel.read_text(encoding="utf-8") == edited


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test.cpp", "does not end with .cu"),
        ("absent/test.cu", "is not a folder; make it first"),
        (".", "does not end with .cu"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_places_that_are_none(name: str, says: str, call: Call, tmp_path: Path) -> None:
    code, out, err = call("emit", "saxpy", "-o", name, "--force")
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_tasks_types_and_parameters(call: Call) -> None:
    code, out, _ = call("list")
    assert code == 0
    for name in NAMES:
        assert f"\n{name} " in out and all(p.name in out for p in find(name).parameters)
    assert "bfloat16" in out and max(map(len, out.splitlines())) <= 80


# -- compiling -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nvcc() -> Path:
        raise build.NoCompilerError("there is no nvcc")

    monkeypatch.setattr(build, "find_nvcc", find_nvcc)


@needs_nvcc
def test_what_was_emitted_is_compiled_into_the_cache(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out, _ = call("emit", "saxpy", "-o", "test.cu")
    assert code == 0 and "Compiled for sm_90 by nvcc " in out
    (made,) = (tmp_path / "cache").rglob("*.so")
    assert made.name in out.replace("\n", "")
    assert build.opened(made).aisp_launch
    code, _, err = call("emit", "saxpy", "-o", "test.cu", "--arch", "sm_10")
    assert (
        code == 2
        and err.startswith("aisp-trace: test.cu does not compile for sm_10: nvcc fatal")
        and err.count("\n") == 1
    )


def test_nvcc_s_first_error_is_told(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "nvcc"
    said = "In file included from x.cu\\nx.cu(3): error: no such thing\\n1 error detected"
    nvcc.write_text(f'#!/bin/sh\n[ "$1" = --version ] || {{ printf "{said}" >&2; exit 2; }}\n', encoding="utf-8")
    nvcc.chmod(0o755)
    monkeypatch.setattr(build, "find_nvcc", lambda: nvcc)
    code, _, err = call("emit", "saxpy", "-o", "test.cu")
    assert (code, err) == (2, "aisp-trace: test.cu does not compile for sm_90: x.cu(3): error: no such thing\n")


@pytest.mark.usefixtures("no_nvcc")
def test_without_a_compiler_it_says_that_nothing_was_compiled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    code, out, _ = call("emit", "saxpy", "-o", "test.cu")
    assert code == 0
    assert "Nothing was compiled: there is no nvcc here, and no NVRTC" in " ".join(out.split())


@pytest.mark.usefixtures("no_nvcc")
def test_without_nvcc_the_device_part_is_compiled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "compile_device", lambda source, arch: nvrtc.Compiled(arch.encode(), "13.5"))
    words = " ".join(call("emit", "saxpy", "-o", "test.cu")[1].split())
    assert words.endswith(
        "The device part was compiled for sm_90 by NVRTC 13.5. The launcher and main were not: that takes nvcc."
    )

    def refuse(source: str, arch: str) -> None:
        raise build.CompileError("no", "kernel.cu(7): error: no such thing\nmore")

    monkeypatch.setattr(nvrtc, "compile_device", refuse)
    code, _, err = call("emit", "saxpy", "-o", "test.cu")
    assert (code, err.partition(": ")[2]) == (
        2,
        "the device part of test.cu does not compile for sm_90: kernel.cu(7): error: no such thing\n",
    )


@pytest.mark.parametrize("name", NAMES)
def test_nvrtc_compiles_every_kernel_of_the_device_part(name: str) -> None:
    pytest.importorskip("cuda.bindings", reason="the extra `kernels` is not installed")
    try:
        made = nvrtc.compile_device(source_of(name), "sm_90")
    except build.NoCompilerError as exc:
        pytest.skip(str(exc))
    found = {word for word in re.findall(rb"\.text\.(\w+)", made.cubin) if name.encode() in word}
    assert len(found) == 3 * (3 if any(p.name == "keep" for p in find(name).parameters) else 2)
    with pytest.raises(build.CompileError, match='"undeclared" is undefined') as refused:
        nvrtc.compile_device("__global__ void kernel() { undeclared(); }", "sm_90")
    assert "error" in refused.value.first and "\n" not in refused.value.first


def nvcc(source: str, folder: Path, *flags: str) -> str:
    """Compile in `folder`; what nvcc said, empty if nothing was wrong."""
    assert NVCC is not None
    folder.mkdir()
    (folder / "test.cu").write_text(source, encoding="utf-8")
    command = [str(NVCC), *STRICT, *flags, "-o", "made", "test.cu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return f"exit code {done.returncode}: {done.stderr}{done.stdout}" if done.returncode or done.stderr else ""


@needs_nvcc
def test_every_task_compiles_for_every_architecture_that_nvcc_knows(tmp_path: Path) -> None:
    """The device parts, which alone depend on it, as one file: nvcc takes most of its time to begin. Optimised little."""
    listed = subprocess.run([str(NVCC), "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    numbers = [word.removeprefix("compute_") for word in listed]
    assert len(numbers) > 3
    flags = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    parts = [f"namespace in_{name} {{\n{source_of(name)}\n}}\n" for name in NAMES]
    quick = ["-fatbin", "--threads=2", "-Xptxas=-O0", "-Xcicc=-O1"]
    assert nvcc("".join(["#define __CUDACC_RTC__\n", *parts]), tmp_path / "all", *quick, *flags) == ""


VALUES: Final[tuple[tuple[str, dict[str, int | str]], ...]] = (
    *((name, {}) for name in NAMES),
    ("rmsnorm", {"keep": "shared", "vector_bytes": 8}),
    ("softmax", {"keep": "none"}),
    ("softmax", {"keep": "shared", "vector_bytes": 4}),
    ("layernorm_residual", {"keep": "none", "rows_per_block": 4}),
    ("column_sum", {"reduction": "shared", "tile_bytes": 256}),
)
"""The defaults, and values with which the templates write other code."""


@needs_nvcc
def test_whole_files_compile_without_a_warning(tmp_path: Path) -> None:
    def tried(number: int) -> str:
        name, changes = VALUES[number]
        return nvcc(source_of(name, **changes), tmp_path / str(number), "-arch=sm_90", "-shared", "-Xcompiler", "-fPIC")

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(tried, range(len(VALUES)))) == [""] * len(VALUES)


# -- the program, made by the Makefile -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if NVCC is None or shutil.which("make") is None:
        pytest.skip("there is no nvcc, or no make")
    folder = tmp_path_factory.mktemp("emitted")
    assert main(["kernels", "emit", "saxpy", "-o", str(folder / "test.cu"), "--no-compile"]) == 0
    (folder / "mine.cu").write_text("not ours, and no CUDA", encoding="utf-8")
    command = ["make", "-C", str(folder), "all", "library", f"NVCC={NVCC}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (folder / "build").iterdir()) == ["libtest.so", "test"]
    return folder / "build" / "test"


@pytest.mark.parametrize(
    ("words", "code", "last"),
    [
        (["--host"], 0, "saxpy: 0 of 36 checks failed."),
        (["--host", "--plant"], 1, "saxpy: 36 of 36 checks failed."),
        (["12x"], 2, "saxpy: words are --host and --plant (12x)."),
    ],
)
def test_the_program_checks_itself(program: Path, words: list[str], code: int, last: str) -> None:
    """The reference in the place of the GPU; the same with an element of each output spoiled, which has to be found."""
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code
    lines = (done.stdout + done.stderr).splitlines()
    assert lines[-1] == last
    assert code != 1 or all("  WRONG out: " in line and "is right" in line for line in lines[:-1])


def test_the_program_says_that_a_gpu_is_missing(program: Path) -> None:
    """The driver is told to show no device, so that this holds on a machine with a GPU too."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done: Any = subprocess.run(
        [program], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("saxpy: a CUDA GPU is needed and none was found (")
