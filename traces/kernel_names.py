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

_ABI_SUFFIX: Final = re.compile(r"(?:_v\d+|_ptsz|_ptds|_spt)+$")


def collectives(names: Iterable[str]) -> frozenset[str]:
    """Those of `names` (demangled or plain kernel names) that are collective communication."""
    return frozenset(n for n in names if _COLLECTIVE.search(n) and _COLLECTIVE.search(function_name(n)))


LONGEST: Final = 4096
"""Characters of a name that are read."""


def function_name(kernel: str) -> str:
    """A demangled kernel name without return type, template arguments and parameters.

    ``void at::native::<unnamed>::f<T>(int)`` -> ``at::native::f``, and ``std::enable_if<b, void>::type g<T>(int)`` -> ``g``.
    Arguments are left out because a compute kernel may well take a collective library's type. Names that are not C++ come back
    as they are.
    """
    text = without_anonymous(kernel)
    kept = list[str]()
    for character, depth in zip(text, depths(text), strict=True):
        if depth == 0 and character == "(" and kept and "".join(kept[-8:]) != "operator":
            break
        if depth == 0 and character not in _PAIRS and character not in _PAIRS.values():
            kept.append(character)
    found = "".join(kept).strip()
    return found.rsplit(" ", 1)[-1] if found else kernel[:LONGEST]


def without_anonymous(kernel: str) -> str:
    """The part of a C++ name that is read, without anonymous namespaces and a return type that looks like a call."""
    text = kernel[:LONGEST].replace("decltype(auto) ", "auto ")
    for word in ("(anonymous namespace)::", "<unnamed>::", "{anonymous}::"):
        text = text.replace(word, "")
    return text


_PAIRS: Final = {")": "(", "]": "[", "}": "{", ">": "<"}


def depths(text: str) -> list[int]:
    """How many brackets each character of a C++ name lies in; those that open and close lie where they are seen from outside.

    A ``>`` closes only a ``<``, so that one in parentheses compares, and what a parenthesis closes ends comparisons in it.
    """
    out, open_ = list[int](), list[str]()
    for place, character in enumerate(text):
        opener = _PAIRS.get(character)
        if opener == "<" and (not open_ or open_[-1] != "<" or text[place - 1] == "-"):
            opener = None
        if opener in open_:
            while open_.pop() != opener:
                pass
        out.append(len(open_))
        if character in "<([{":
            open_.append(character)
    return out


def call_name(name: str) -> str:
    """`name` without the suffixes of its ABI version: ``cudaMemcpyAsync_ptsz_v7000`` -> ``cudaMemcpyAsync``."""
    return _ABI_SUFFIX.sub("", name) or name
