"""Building kernels: found, compiled, cached, refused."""

from __future__ import annotations

import ctypes
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aisp_trace.kernels import build
from aisp_trace.kernels.build import SOURCES, KernelError
from aisp_trace.kernels.clamped_swiglu import ClampedSwiglu

try:
    build.find_nvcc()
    HAS_NVCC = True
except KernelError:
    HAS_NVCC = False

needs_nvcc = pytest.mark.skipif(not HAS_NVCC, reason="there is no nvcc")

COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "compiler ${{VERSION:-1}}"; exit 0; fi
echo compiled >>"{log}"
if grep -q broken "$(eval echo \\${{$#}})"; then echo "line 1: no such thing" >&2; exit 2; fi
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo library >"$2"; fi; shift; done
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A compiler that writes a line into a log for every compilation."""
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(COMPILER.format(log=tmp_path / "log"), encoding="utf-8")
    nvcc.chmod(0o755)
    return nvcc


def compilations(tmp_path: Path) -> int:
    log = tmp_path / "log"
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def test_what_was_compiled_is_found_again_and_any_change_is_compiled_anew(
    tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = tmp_path / "one.cu", tmp_path / "cache"
    source.write_text("a", encoding="utf-8")
    made = build.build(source, (9, 0), fake, cache)
    assert made.name.startswith("one-sm_90-")
    assert build.build(source, (9, 0), fake, cache) == made
    assert compilations(tmp_path) == 1
    others = {made, build.build(source, (10, 3), fake, cache)}
    source.write_text("b", encoding="utf-8")
    others.add(build.build(source, (9, 0), fake, cache))
    monkeypatch.setenv("VERSION", "2")
    others.add(build.build(source, (9, 0), fake, cache))
    assert len(others) == compilations(tmp_path) == 4
    assert sorted(cache.iterdir()) == sorted(others), "nothing half made is left"


def test_a_failed_compilation_leaves_nothing_and_says_what_the_compiler_said(tmp_path: Path, fake: Path) -> None:
    source = tmp_path / "two.cu"
    source.write_text("broken", encoding="utf-8")
    with pytest.raises(KernelError, match="failed with exit code 2: line 1: no such thing"):
        build.build(source, (9, 0), fake, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_several_builders_at_once_agree(tmp_path: Path, fake: Path) -> None:
    source = tmp_path / "three.cu"
    source.write_text("a", encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: build.build(source, (9, 0), fake, tmp_path / "cache"), range(4)))
    assert list((tmp_path / "cache").iterdir()) == [made[0]]
    assert len(set(made)) == 1


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, fake: Path) -> None:
    source, blocked = tmp_path / "four.cu", tmp_path / "file"
    source.write_text("a", encoding="utf-8")
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(KernelError, match="set XDG_CACHE_HOME to a folder that can"):
        build.build(source, (9, 0), fake, blocked / "cache")


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(fake.parents[1]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KernelError, match="was compiled but cannot be loaded"):
        build.load("clamped_swiglu", (9, 0))


def test_a_compiler_that_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "nvcc"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n", encoding="utf-8")
    slow.chmod(0o755)
    monkeypatch.setattr(build, "TIMEOUT_S", 0.2)
    with pytest.raises(KernelError, match="did not end within"):
        build.build(SOURCES / "clamped_swiglu.cu", (9, 0), slow, tmp_path)


def test_where_nvcc_is_looked_for(tmp_path: Path, fake: Path) -> None:
    other = tmp_path / "other" / "nvcc"
    other.parent.mkdir()
    shutil.copy(fake, other)
    usual = tmp_path / "usual" / "nvcc"
    usual.parent.mkdir()
    shutil.copy(fake, usual)
    home, path = {"CUDA_HOME": str(fake.parents[1])}, {"PATH": str(other.parent)}
    nowhere = {"PATH": str(tmp_path / "empty")}
    assert build.find_nvcc({**home, **path}, [usual]) == fake
    assert build.find_nvcc({"CUDA_HOME": str(tmp_path / "gone"), **path}, [usual]) == other
    assert build.find_nvcc(nowhere, [usual]) == usual
    with pytest.raises(KernelError, match="install the CUDA toolkit, or set CUDA_HOME"):
        build.find_nvcc(nowhere, [])


def test_the_cache_folder_follows_the_environment(tmp_path: Path) -> None:
    assert build.cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "aisp-trace" / "kernels"
    assert build.cache_folder({}) == Path.home() / ".cache" / "aisp-trace" / "kernels"


# -- with the real compiler --------------------------------------------------------------------------------------


@needs_nvcc
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_the_fused_kernel_compiles_and_exports_its_functions(tmp_path: Path, capability: tuple[int, int]) -> None:
    made = build.build(SOURCES / "clamped_swiglu.cu", capability, cache=tmp_path)
    library = ctypes.CDLL(str(made))
    assert library.aisp_clamped_swiglu and library.aisp_cuda_error
    assert f"sm_{capability[0]}{capability[1]}".encode() in made.read_bytes()


@needs_nvcc
def test_a_source_with_an_error_is_refused_with_nvcc_s_message(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text("int f() { return undeclared; }\n", encoding="utf-8")
    with pytest.raises(KernelError, match='identifier "undeclared" is undefined'):
        build.build(source, (9, 0), cache=tmp_path / "cache")


# -- on a GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 1023, 4096, 1_000_003])
@pytest.mark.parametrize("offset", [0, 1])
def test_the_fused_kernel_agrees_with_fp64(count: int, offset: int) -> None:
    """Whole vectors, tails, and addresses that are not a multiple of 16; nothing is written beyond the end."""
    torch = pytest.importorskip("torch")
    if not HAS_NVCC or not torch.cuda.is_available():
        pytest.skip("there is no GPU, or no nvcc")
    kernel = ClampedSwiglu(torch.cuda.get_device_capability())
    gate, up = (torch.randn(count + offset, device="cuda").mul_(4)[offset:] for _ in range(2))
    out = torch.full((count + offset + 1,), -77.0, device="cuda")
    result = out[offset : offset + count]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    kernel(gate.data_ptr(), up.data_ptr(), result.data_ptr(), count, 1.702, 7.0, stream.cuda_stream)
    torch.cuda.synchronize()
    g, u = gate.double().clamp(max=7), up.double().clamp(-7, 7)
    expected = g * torch.sigmoid(1.702 * g) * (u + 1)
    # Far below zero the exponential magnifies the rounding of its argument, of a result that is nearly nothing: hence max.
    assert bool(((result.double() - expected).abs() <= 2e-6 * expected.abs().clamp(min=1)).all())
    assert float(out[-1]) == -77.0
