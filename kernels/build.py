"""CUDA sources become shared libraries when they are first needed: nvcc, a cache, `ctypes`.

    library = load("clamped_swiglu", capability=(9, 0))     # compiles for sm_90, or finds what was compiled before
    library.aisp_clamped_swiglu(...)

The cache is addressed by content: the name of a library is a digest of its source, nvcc's version and the command line,
so that nothing stale is ever loaded and nothing needs to be cleaned. It lies in ``$XDG_CACHE_HOME/aisp-trace/kernels``
(by default below ``~/.cache``); a library is compiled beside its final name and renamed, so that several processes may
build at once and an interrupted build leaves nothing that is believed.

A library holds machine code for one compute capability, brings its own CUDA runtime, and uses the context that the
framework made current on the calling thread.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).resolve().parent

FLAGS: Final = ("-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC", "-Werror", "all-warnings")

TIMEOUT_S: Final = 300
"""Far above what a source of this folder takes (seconds); an nvcc that hangs is reported instead of waited for."""


Compiler = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
"""Runs a compiler's command as `completed` does."""


class KernelError(Exception):
    """A source could not be compiled, loaded or launched. One sentence, then what the compiler said, if anything."""


class NoCompilerError(KernelError):
    """Nothing here compiles CUDA."""


class CompileError(KernelError):
    """The compiler refused a source; `said` is all that it wrote."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said

    @property
    def first(self) -> str:
        """The first line of `said` that tells an error, else its first line."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()] or ["it gave no reason"]
        return next((line for line in lines if re.search(r"\b(error|fatal)\b", line)), lines[0])


def arch_of(capability: tuple[int, int]) -> str:
    """nvcc's name of a compute capability: ``sm_90`` of (9, 0)."""
    return "sm_{}{}".format(*capability)


def capability_of(arch: str) -> tuple[int, int]:
    """The compute capability that nvcc calls so: (9, 0) of ``sm_90``. Raises `ValueError` for another word."""
    found = re.fullmatch(r"sm_(\d+)(\d)", arch)
    if found is None:
        raise ValueError(f"{arch} is not an architecture; write it like sm_90")
    return int(found[1]), int(found[2])


def load(name: str, capability: tuple[int, int]) -> ctypes.CDLL:
    """The library made from ``<name>.cu`` for a device of this compute capability; compiled if the cache has none.

    Raises `KernelError` if there is no nvcc, if it fails, or if what it made cannot be loaded.
    """
    return opened(build(SOURCES / f"{name}.cu", capability))


def opened(library: Path) -> ctypes.CDLL:
    """What `build` made, loaded into this process; raises `KernelError` if it cannot be."""
    try:
        return ctypes.CDLL(str(library))
    except OSError as exc:
        raise KernelError(
            f"{library} was compiled but cannot be loaded ({exc}); delete it, or look at `ldd` of it"
        ) from exc


def version(nvcc: Path) -> str:
    """The release that `nvcc` says it is, such as ``13.0``."""
    said = _run([str(nvcc), "--version"])
    found = re.search(r"release ([\d.]+)", said)
    return found[1] if found else "of an unknown version"


def build(
    source: Path,
    capability: tuple[int, int],
    nvcc: Path | None = None,
    cache: Path | None = None,
    compiler: Compiler | None = None,
) -> Path:
    """The library's path. `nvcc` and `cache` default to `find_nvcc` and the user's cache folder; errors as of `load`."""
    nvcc = nvcc or find_nvcc()
    arch = f"{capability[0]}{capability[1]}"
    command = [str(nvcc), *FLAGS, "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    # The options, not where nvcc lies: the same version from another folder makes the same library.
    parts = (source.read_bytes(), _run([str(nvcc), "--version"]).encode(), " ".join(command[1:]).encode())
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:20]
    folder = cache or cache_folder()
    library = folder / f"{source.stem}-sm_{arch}-{digest}.so"
    if library.is_file():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as partial:
            made = Path(partial) / library.name
            (compiler or completed)([*command, "-o", str(made), str(source)])
            made.replace(library)
    except OSError as exc:
        raise KernelError(
            f"{folder} cannot hold compiled kernels ({exc}); set XDG_CACHE_HOME to a folder that can"
        ) from exc
    return library


def log(source: Path, capability: tuple[int, int], nvcc: Path | None = None, compiler: Compiler | None = None) -> str:
    """What nvcc says of each kernel: registers, spills, shared memory; without a folder's name. Compiles; errors as of `load`."""
    nvcc = nvcc or find_nvcc()
    options = ["-O3", "-std=c++17", "-Xptxas", "-v", "-cubin", f"-arch={arch_of(capability)}"]
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
        done = (compiler or completed)([str(nvcc), *options, "-o", str(Path(folder) / "source.cubin"), str(source)])
    said = (done.stdout + done.stderr).replace(str(source), source.name)
    return f"nvcc {version(nvcc)} {' '.join(options)} {source.name}\n{said}"


def ptx(source: Path, capability: tuple[int, int], nvcc: Path | None = None, compiler: Compiler | None = None) -> str:
    """`source` in the assembler of a virtual architecture, which names its kernels; errors as of `load`."""
    arch = f"{capability[0]}{capability[1]}"
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as folder:
        made = Path(folder) / "source.ptx"
        options = ["-std=c++17", "-ptx", "-gencode", f"arch=compute_{arch},code=compute_{arch}", "-o", str(made)]
        (compiler or completed)([str(nvcc or find_nvcc()), *options, str(source)])
        return made.read_text(encoding="utf-8", errors="replace")


def find_nvcc(environ: Mapping[str, str] = os.environ, usual: Sequence[Path] | None = None) -> Path:
    """The CUDA compiler: of CUDA_HOME or CUDA_PATH, of PATH, of /usr/local/cuda*, of the package nvidia-cuda-nvcc.

    `usual` replaces the last two. Raises `KernelError` saying where it was looked for.
    """
    homes = [Path(environ[key]) / "bin" / "nvcc" for key in ("CUDA_HOME", "CUDA_PATH") if environ.get(key)]
    on_path = shutil.which("nvcc", path=environ.get("PATH", os.defpath))
    places = [*homes, *([Path(on_path)] if on_path else []), *(_usual_places() if usual is None else usual)]
    for place in places:
        if place.is_file() and os.access(place, os.X_OK):
            return place
    raise NoCompilerError(
        "a CUDA kernel has to be compiled and there is no nvcc in $CUDA_HOME, on PATH, in /usr/local/cuda* or among the "
        "Python packages; install the CUDA toolkit, or set CUDA_HOME to where it is"
    )


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where compiled libraries are kept."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aisp-trace" / "kernels"


def _usual_places() -> list[Path]:
    # Newest version last in the alphabet; `cuda` alone is the link that the installer keeps to the chosen one.
    local = [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    return [*(home / "bin" / "nvcc" for home in local), *sorted(packages.glob("*/bin/nvcc"), reverse=True)]


def _run(command: Sequence[str]) -> str:
    """What `command` printed; raises as `completed`."""
    return completed(command).stdout


def completed(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """`command` when it has ended well; raises `KernelError` with its message if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as exc:
        raise KernelError(f"`{' '.join(command)}` did not end within {TIMEOUT_S} s; try it by hand") from exc
    except OSError as exc:
        raise KernelError(f"{command[0]} cannot be started ({exc}); set CUDA_HOME to a CUDA toolkit") from exc
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CompileError(f"`{' '.join(command)}` failed with exit code {done.returncode}: {said}", said)
    return done
