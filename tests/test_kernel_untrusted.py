"""What a source that a model wrote may include, how it is compiled, and that messages quote no file but the source itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.kernels import build, emit, space, untrusted
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.kernels.untrusted import device_compiled, is_generated, objection, own_messages, sealed
from aisp_trace.tests.patience import PATIENCE_S

try:
    NVCC: Path | None = build.find_nvcc()
except build.KernelError:
    NVCC = None

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")

SECRET: Final = "hunter2 swordfish"

READERS: Final = {
    "include": '#include "{file}"\n',
    "angle brackets": "#include <{file}>\n",
    "in an expression": 'const char* text =\n#include "{file}"\n;\n',
    "by a macro": '#define FILE_NAME "{file}"\n#include FILE_NAME\n',
    "spliced": '#inc\\\nlude "{file}"\n',
    "spliced with a space": '#inc\\ \nlude "{file}"\n',
    "behind a comment": '/* a\n comment */ # /* b */ include "{file}"\n',
    "comment across lines": '#/*\n*/include "{file}"\n',
    "digraph": '%:include "{file}"\n',
    "include_next": '#include_next "{file}"\n',
    "import": '#import "{file}"\n',
    "relative": '#include "../../../../../../../../..{file}"\n',
    "through a header's folder": "#include <cuda/../../../../../../../../../../..{file}>\n",
    "only for the device": '#ifdef __CUDA_ARCH__\n#include "{file}"\n#endif\n',
    "assembler": 'asm(".include \\"{file}\\"");\n',
    "assembler in pieces": 'asm(".inc" "lude \\"{file}\\"");\n',
}
"""Ways to make a compiler read a file. Where `objection` lets one pass, messages have to hold."""

PASS: Final = {"assembler in pieces"}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text(f"{SECRET}: one\n{SECRET}: two\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("how", READERS)
def test_a_source_that_reads_another_file_is_refused(how: str) -> None:
    source = READERS[how].format(file="/etc/passwd")
    assert (objection(source) is None) == (how in PASS)


@pytest.mark.parametrize(
    "line",
    [
        *(
            '#line 1 "/etc/passwd"',
            '# 1 "/etc/passwd"',
            "#ident x",
            "#embed </etc/passwd>",
            '#pragma GCC dependency "x"',
        ),
        *('#pragma message("x")', '_Pragma("once")', '#if __has_include("/home/x")', "#", "??=include <a>"),
        "#define A(x) __has_##x",
        *("#include <map>", "#include <vector> <map>", '#include <cmath> /* a */ "x"', "a\rb"),
    ],
)
def test_other_directives_are_refused(line: str) -> None:
    assert objection(f"int a;\n{line}\nint b;\n") is not None


def test_what_kernels_need_may_be_written() -> None:
    for name in NAMES:
        assert objection(emit.source(find(name), space.defaults(find(name)), "sm_90", "0")) is None, name
    source = (
        '#include <cuda_fp16.h>  // halves\n#include "mma.h"\n  #  pragma unroll 4\n#define A(x) #x\n#if 1\n#endif\n'
    )
    assert objection(source + "#include <cooperative_groups/reduce.h>\n") is None


@needs_nvcc
@pytest.mark.parametrize("how", [how for how in READERS if "arch" not in how])
def test_nvcc_s_messages_show_nothing_of_other_files(how: str, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check before compiling is switched off: what it may overlook still shows nothing."""
    monkeypatch.setattr(untrusted, "objection", lambda source: None)
    source = READERS[how].format(file=secret) + "__global__ void kernel() {}\n"
    with sealed(source.encode()) as box, pytest.raises(build.KernelError) as refused:
        build.build(box.path, (9, 0), NVCC, box.folder / "cache", box)
    shown = f"{refused.value} {getattr(refused.value, 'said', '')}"
    assert not any(word in shown for word in SECRET.split()), shown
    assert str(box.folder) not in shown


def test_nvrtc_s_messages_show_nothing_of_other_files(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings", reason="the extra `kernels` is not installed")
    try:
        assert device_compiled(b"__global__ void kernel() {}", "sm_90")
    except build.CompileError:
        raise
    except build.KernelError as exc:
        pytest.skip(str(exc))
    monkeypatch.setattr(untrusted, "objection", lambda source: None)
    for how in ("include", "in an expression", "by a macro", "relative", "only for the device"):
        source = READERS[how].format(file=secret) + "__global__ void kernel() { wrong; }\n"
        with pytest.raises(build.CompileError) as refused:
            device_compiled(source.encode(), "sm_90")
        assert not any(word in str(refused.value) for word in SECRET.split()), how
    with pytest.raises(build.CompileError, match='error: identifier "wrong" is undefined') as refused:
        device_compiled(b"__global__ void kernel() { wrong; }", "sm_90")
    assert refused.value.said.splitlines()[1].strip() == "__global__ void kernel() { wrong; }"


@needs_nvcc
def test_what_is_wrong_with_the_source_itself_is_shown() -> None:
    source = "#include <cuda_runtime.h>\nvoid f() { cudaMalloc(3, 4); }\nstatic_assert(sizeof(int) == 5, __FILE__);\n"
    with sealed(source.encode()) as box, pytest.raises(build.CompileError) as refused:
        build.build(box.path, (9, 0), NVCC, box.folder / "cache", box)
    first, line, types, *rest = refused.value.said.splitlines()
    assert first.startswith("source.cu(2): error: no instance of overloaded function") and "cudaMalloc" in line
    assert types.strip() == "argument types are: (int, int)"
    assert any('failed with "source.cu"' in one for one in rest) or "static_assert" in "".join(rest)
    assert "/usr" not in refused.value.said


@needs_nvcc
def test_a_generated_source_has_a_log_and_kernels_as_any_other(tmp_path: Path) -> None:
    from aisp_trace.kernels.verify.names import kernels_of

    text = emit.source(find("saxpy"), space.defaults(find("saxpy")), "sm_90", "0")
    plain, made = tmp_path / "plain.cu", tmp_path / "made.cu"
    plain.write_text(text, encoding="utf-8")
    made.write_text(text.replace("kernels emit saxpy`", "kernels emit saxpy --generator llm`"), encoding="utf-8")
    logs, kernels = [], []
    for file in (plain, made):
        with untrusted.compiling(file) as (source, compiler):
            assert (source == file) == (file == plain)
            logs.append(build.log(source, (9, 0), compiler=compiler))
            kernels.append(kernels_of(source, (9, 0), compiler))
    assert kernels[0] == kernels[1] and len(kernels[0]) == 6
    assert logs[1].count("ptxas info") == logs[0].count("ptxas info") > 6 and "Used " in logs[1]
    assert str(tmp_path) not in logs[1] and "aisp-trace-sealed" not in logs[1]


# -- the filter alone --------------------------------------------------------------------------------------------------

OWN: Final = "one\ntwo wrong\nthree\n"

SAID: Final[dict[str, tuple[str, str]]] = {
    "nvcc": ('source.cu(2): error: no "x"\n  two wrong\n  ^\n\n1 error', 'source.cu(2): error: no "x"\n    two wrong'),
    "g++": ("source.cu:2:5: error: no x\n    2 | two wrong\n", "source.cu(2): error: no x\n    two wrong"),
    "its quoted line is never shown": ("source.cu(1): error: a\n  root:x:0:0\n", "source.cu(1): error: a\n    one"),
    "a header of CUDA": (
        "/usr/local/cuda-13.0/bin/../include/a.h(3): note: here\n  text\nsource.cu(3): warning: b\n",
        "source.cu(3): warning: b\n    three",
    ),
    "ptxas": ("ptxas /tmp/x.ptx, line 9; error   : Not a name: 'a'", "ptxas error   : Not a name: 'a'"),
    "the linker": (
        "/usr/bin/ld: /tmp/tmpxft.o: in function `f':\nx.cpp:(.text+0x5): undefined reference to `g()'",
        "error: undefined reference to `g()'",
    ),
}
HIDDEN: Final = (
    "/etc/passwd(1): error: a\n  root:x:0:0\n",
    "/etc/passwd:3:1: error: root:x:0:0",
    "/etc/passwd:3: Error: no such instruction: `root:x:0:0'",
    "/etc/passwd: Assembler messages:\nroot:x:0:0\n",
    "../../etc/passwd(1): error: a root:x:0:0\n",
    "/usr/include/../../etc/passwd(1): error: root:x:0:0\n",
    "source.cu(1): error: expected ; before root:x:0:0\n/etc/passwd(1): error: a\n",
    "In file included from source.cu:1:\n/etc/passwd:1:1: error: 'root:x:0:0' does not name a type\n",
)


@pytest.mark.parametrize("kind", SAID)
def test_messages_about_the_source_stay(kind: str) -> None:
    said, shown = SAID[kind]
    assert own_messages(said, OWN, "source.cu") == shown


@pytest.mark.parametrize("said", HIDDEN)
def test_messages_about_other_files_go(said: str) -> None:
    shown = own_messages(said, OWN, "source.cu")
    assert shown == "error: the compiler read another file than source.cu, so nothing that it said is shown"


def test_messages_are_few_short_and_plain() -> None:
    said = "".join(f"source.cu({n}): error: {n} \x1b[31m{'x' * 1000}\n" for n in range(100))
    shown = own_messages(said, "line\n" * 100, "source.cu")
    assert len(shown) < 30_000 and "\x1b" not in shown and shown.endswith("and 70 more messages")


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("x = bytearray(16 << 30)", "MemoryError"),
        ("open('big', 'wb').write(bytes(300 << 20))", "File too large"),
        (
            "import os; assert set(os.environ) <= {'PATH', 'TMPDIR', 'HOME', 'LC_ALL', 'LC_CTYPE', 'AISP_TRACE_PROCESS'}",
            "",
        ),
        ("import os; assert os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR']", ""),
    ],
)
def test_a_compiler_runs_with_limits_and_without_this_environment(
    program: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    # The filter keeps what a compiler says of the source; so the program says it of the source.
    told = f"try:\n {program}\nexcept BaseException as exc:\n raise SystemExit(f'source.cu:1:1: error: {{exc!r}}')"
    with sealed(b"int x;") as box:
        if not says:
            box([sys.executable, "-I", "-c", told])
            return
        with pytest.raises(build.CompileError) as refused:
            box([sys.executable, "-I", "-c", told])
        assert says in refused.value.said


def test_a_compiler_that_hangs_is_ended() -> None:
    with sealed(b"int x;", timeout_s=0.5) as box, pytest.raises(build.KernelError, match=r"did not end within 0\.5 s"):
        box([shutil.which("sleep") or "/bin/sleep", "600"])


# -- running -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_nothing_runs_without_being_told_to(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = emit.source(find("saxpy"), space.defaults(find("saxpy")), "sm_90", "0")
    file = tmp_path / "made.cu"
    file.write_text(text.replace("kernels emit saxpy`", "kernels emit saxpy --generator llm`"), encoding="utf-8")
    assert is_generated(file.read_bytes()) and not is_generated(text.encode())
    assert main(["kernels", command, str(file), "--task", "saxpy"]) == 2
    assert "was written by a model, and would run with this user's rights" in capsys.readouterr().err


HOG: Final = """
kept = []
def run(inputs, outputs):
    import time
    for _ in range(64):
        kept.append(bytearray(b"x") * (64 << 20))
    time.sleep(60)
"""


def test_a_candidate_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from aisp_trace.kernels.verify.evidence import Asked
    from aisp_trace.kernels.verify.limits import MemoryLimits
    from aisp_trace.kernels.verify.parent import verify

    file = tmp_path / "hog.py"
    file.write_text(HOG, encoding="utf-8")
    limits = MemoryLimits(host_bytes=3 << 29)
    found = verify(Asked(file, "saxpy", device="cpu", calls=1, run_untrusted=True, limits=limits))
    assert found.status == "refused" and [one.code for one in found.reasons] == ["memory"], found.reasons
    assert "GiB of host memory, and 1.5 are allowed" in found.reasons[0].text


def test_memory_of_the_device_is_limited_too() -> None:
    pytest.importorskip("torch")
    from aisp_trace.kernels.verify.evidence import Heard
    from aisp_trace.kernels.verify.limits import MemoryLimits
    from aisp_trace.kernels.verify.watch import watching

    used = iter([10, *range(20, 100, 10)])
    process = subprocess.Popen(["/bin/sleep", "600"])
    heard = Heard(pid=process.pid)
    with watching(heard, MemoryLimits(device_bytes=50), lambda: next(used, 1000)):
        assert process.wait(PATIENCE_S) == -9
    assert heard.failure is not None and heard.failure.code == "memory" and "device memory" in heard.failure.text
