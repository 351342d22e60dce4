"""Whose a kernel is, by its name: the candidate's own, or a library's.

Of a .cu candidate its own are those that its source has: nvcc's PTX of it lists them. Of a .py candidate nobody knows which
kernels it makes; those of well-known libraries are named.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ..build import Compiler, ptx

_LIBRARIES: Final = (
    ("PyTorch", r"\bat::(native|cuda|functorch)\b|\bat_cuda_detail\b|\bc10::|\bat::|pytorch_flash|fmha_cutlass"),
    ("cuBLAS", r"\bcublas|^nvjet|_gemm_|\bgemm[vk]?\w*_kernel|xmma_gemm|gemmk1_|splitK|dot_kernel|\bgemv"),
    ("cuDNN", r"cudnn|\bconv\w*_kernel|xmma_fprop|implicit_convolve"),
    ("CUTLASS", r"cutlass"),
    ("Inductor", r"^triton_(poi|red|per|tem|for|mm)_"),
    ("CUB or Thrust", r"\bcub::|\bthrust::"),
    ("cuSPARSE, cuSOLVER or cuFFT", r"cusparse|cusolver|cufft|\bregular_fft|vector_fft"),
    ("FlashAttention", r"\bflash::|flash_fwd|flash_bwd"),
    ("Apex, TransformerEngine, vLLM or xFormers", r"transformer_engine|\bvllm::|\bapex\b|xformers|HostApplyRMSNorm"),
    ("CuPy, RAPIDS or JAX", r"^cupy_|\braft::|\bxla::|^loop_\w*fusion|^input_\w*fusion"),
    ("NCCL", r"^nccl"),
)
"""Libraries and what their kernels are called, as seen in recordings of PyTorch programs on A100, H100 and H200."""

_COMPILED: Final = tuple((library, re.compile(pattern)) for library, pattern in _LIBRARIES)
_ENTRY: Final = re.compile(r"^\s*(?:\.(?:visible|weak|extern)\s+)*\.entry\s+([\w$]+)", re.MULTILINE)
_LOCAL: Final = re.compile(r"(\d+)(?=_GLOBAL__N_|_INTERNAL_)")


def library_of(name: str) -> str | None:
    """The library that a kernel called `name` seems to be of; null if it looks like nobody's."""
    return next((library for library, pattern in _COMPILED if pattern.search(name)), None)


def kernels_of(source: Path, capability: tuple[int, int], compiler: Compiler | None = None) -> frozenset[str]:
    """The mangled names (`plain`) of all kernels in `source`. Raises `KernelError` if it does not compile."""
    return frozenset(map(plain, _ENTRY.findall(ptx(source, capability, compiler=compiler))))


def plain(mangled: str) -> str:
    """`mangled` without the part that stands for an unnamed namespace, which differs from one compilation to the next."""
    while found := _LOCAL.search(mangled):
        mangled = mangled[: found.start()] + "@" + mangled[found.end() + int(found[1]) :]
    return mangled


def is_own(mangled: str, name: str, own: Collection[str]) -> bool:
    """Whether the kernel is one of `own`. Where the recording lacks mangled names, the short one has to stand in one of them."""
    if mangled:
        return plain(mangled) in own
    bare = re.sub(r"\(anonymous namespace\)|<unnamed>", "", name.removeprefix("void "))
    short = re.split(r"[<(]", bare)[0].rpartition("::")[2].strip()
    return any(f"{len(short)}{short}" in one or one == short for one in own)
