"""What a name says: which kernels communicate, and which call an API entry point is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# Words of collective kernels as their libraries name them: NCCL and RCCL (ncclDevKernel_*, ncclKernel_*), NVSHMEM,
# vLLM and SGLang (cross_device_reduce_*, all_reduce), TensorRT-LLM and FlashInfer (*allreduce*), PyTorch symmetric
# memory (multimem_*, *_all_reduce_kernel), MSCCL++, Transformer Engine (userbuffers_*), DeepEP (deep_ep::).
_COLLECTIVE: Final = re.compile(
    r"nccl|nvshmem|rccl|mscclpp|cross_device_reduce|multimem_|userbuffers_|deep_ep::"
    r"|(?<![A-Za-z])(?:all_?reduce|all_?gather|reduce_?scatter|all_?to_?all)"
    r"|AllReduce|AllGather|ReduceScatter|AllToAll|[a-z]_?allreduce"
)

_ABI_SUFFIX: Final = re.compile(r"(?:_v\d+|_ptsz|_ptds)+$")


def collectives(names: Iterable[str]) -> frozenset[str]:
    """Those of `names` (demangled or plain kernel names) that are collective communication."""
    return frozenset(n for n in names if _COLLECTIVE.search(function_name(n)))


def function_name(kernel: str) -> str:
    """A demangled kernel name without return type, template arguments and parameters.

    ``void at::native::<unnamed>::f<T>(int)`` -> ``at::native::f``. Arguments are left out because a compute kernel may
    well take a collective library's type. Names that are no C++ come back as they are.
    """
    text = kernel[:4096].replace("(anonymous namespace)::", "").replace("<unnamed>::", "")
    text = re.split(r"[<(]", text, maxsplit=1)[0].strip()
    return text.rsplit(" ", 1)[-1] if text else kernel[:4096]


def call_name(name: str) -> str:
    """`name` without the suffixes of its ABI version: ``cudaMemcpyAsync_ptsz_v7000`` -> ``cudaMemcpyAsync``."""
    return _ABI_SUFFIX.sub("", name) or name
