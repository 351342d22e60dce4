"""The device part of an emitted file compiled by NVRTC, where there is no nvcc: it needs two Python packages, and no GPU."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .build import CompileError, NoCompilerError

PACKAGES = "cuda-bindings and nvidia-cuda-nvrtc"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code for one architecture, and the release of NVRTC that made it."""

    cubin: bytes
    release: str


def compile_device(source: str, arch: str) -> Compiled:
    """`source` with ``__CUDACC_RTC__`` defined, for `arch` (``sm_90``).

    Raises `NoCompilerError` without the packages, `CompileError` with NVRTC's log.
    """
    try:
        from cuda.bindings import nvrtc

        _, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as exc:  # no bindings; bindings without the library
        raise NoCompilerError(f"NVRTC needs the packages {PACKAGES} ({exc})") from exc
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    options = [f"--gpu-architecture={arch}".encode(), b"-std=c++17"]
    (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        nvrtc.nvrtcGetProgramLog(program, log)
        said = log.rstrip(b"\0").decode(errors="replace").strip() or f"{code.name} for {arch}"
        raise CompileError(f"NVRTC refused the device part: {said}", said)
    cubin = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program)))
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return Compiled(bytes(cubin), f"{major}.{minor}")


def main() -> None:
    """Compile the file and for the architecture that the command line names; print NVRTC's release, and nothing without one."""
    file, arch = sys.argv[1:]
    try:
        print(compile_device(Path(file).read_text(encoding="utf-8"), arch).release)
    except NoCompilerError:
        sys.exit(0)
    except CompileError as exc:
        sys.exit(exc.said)


def _checked(answer: tuple[Any, ...]) -> Any:
    code, value = answer
    if int(code) != 0:
        raise CompileError(f"NVRTC failed with {code.name}", code.name)
    return value
