"""Kernels in short: what a C++ name of 600 characters says of the work, and no two kernels under one name.

    void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>>(...)
        elementwise vectorized<4> add<bf16>
    void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, ...>, ...>>(...)
        reduce mean<float>
    void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8>(...)
        cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8
    void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, ..., cutlass::bfloat16_t, ...>, ...>(...)
        flash_fwd_kernel<128, 128, 64, 4, bf16>
    ncclDevKernel_AllReduce_Sum_f32_RING_LL(...)
        nccl AllReduce_Sum_f32_RING_LL
    triton_poi_fused_add_mul_0                        as it is

Kernels whose short names are equal get what tells their full names apart in brackets, and a number where that is too long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from ...traces.kernel_names import LONGEST, depths, without_anonymous
from .distinct import told_apart

_ELEMENTWISE: Final = {
    "vectorized_elementwise_kernel": "vectorized",
    "vectorized_templated_elementwise_kernel": "vectorized",
    "unrolled_elementwise_kernel": "unrolled",
    "unrolled_elementwise_kernel_for_multi_outputs": "unrolled",
    "legacy_elementwise_kernel": "",
    "elementwise_kernel": "",
    "elementwise_kernel_with_index": "with index",
    "index_elementwise_kernel": "index",
    "distribution_elementwise_grid_stride_kernel": "distribution",
}
"""Kernels of at::native that apply a function to every element, and how they do it."""

_TYPES: Final = {
    "c10::BFloat16": "bf16",
    "__nv_bfloat16": "bf16",
    "nv_bfloat16": "bf16",
    "cutlass::bfloat16_t": "bf16",
    "cute::bfloat16_t": "bf16",
    "c10::Half": "fp16",
    "__half": "fp16",
    "half": "fp16",
    "cutlass::half_t": "fp16",
    "cute::half_t": "fp16",
    "cutlass::tfloat32_t": "tf32",
    "c10::Float8_e4m3fn": "fp8_e4m3",
    "__nv_fp8_e4m3": "fp8_e4m3",
    "cutlass::float_e4m3_t": "fp8_e4m3",
    "c10::Float8_e5m2": "fp8_e5m2",
    "__nv_fp8_e5m2": "fp8_e5m2",
    "cutlass::float_e5m2_t": "fp8_e5m2",
    "float": "float",
    "double": "double",
    "long": "long",
    "int": "int",
    "short": "short",
    "bool": "bool",
    "signed char": "int8",
    "unsigned char": "uint8",
    "int8_t": "int8",
    "uint8_t": "uint8",
    "c10::complex<float>": "complex64",
    "c10::complex<double>": "complex128",
}

_HOLDERS: Final = frozenset(
    [
        "gpu_kernel_impl",
        "gpu_kernel_impl_nocast",
        "opmath_gpu_kernel_with_scalars",
        "opmath_symmetric_gpu_kernel_with_scalars",
        "gpu_kernel",
        "gpu_kernel_with_scalars",
        "func_wrapper_t",
        "ReduceOp",
        "BinaryFunctor",
        "distribution_nullary_kernel",
        "distribution_binary_kernel",
        "normal_and_transform",
        "uniform_and_transform",
        "random_from_to",
    ]
)
"""Templates that only hand the function on."""

_SCALAR: Final = frozenset({"AUnaryFunctor", "BUnaryFunctor"})
"""Holders of a function of two operands, one of which is a number."""

_VAGUE: Final = frozenset({"kernel", "Kernel", "Kernel2", "device_kernel", "kernel_impl", "run", "operator()", "main"})
"""Names that say nothing without what they lie in."""

_NAMESPACES: Final = frozenset(
    [
        "at",
        "native",
        "detail",
        "internal",
        "cuda",
        "std",
        "c10",
        "binary_internal",
        "templates",
        "cutlass",
        "cute",
        "cub",
        "thrust",
        "impl",
        "kernel",
        "gemm",
    ]
)

_COLLECTIVE: Final = re.compile(r"nccl(?:Dev)?Kernel_(\w+)")
_LIBRARY_TAIL: Final = re.compile(r"_execute(?:_\w+?)?_kernel(?:__5x_cublas|__51x_cudnn|_trt)?$|__5x_cu(?:blas|dnn)$")
_WORK: Final = re.compile(r"\b(?:\w*Gemm|\w*Conv|\w*Attention|\w*Fmha)\w*")
"""What a kernel of CUTLASS does, among its template arguments."""
_LAMBDA: Final = re.compile(r"lambda ?\(([^()]*)\)")
_MANGLED: Final = re.compile(r"_ZN?K?\d")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The short name of each of `names`; no two have the same. Which other names there are decides how short it can be."""
    distinct = sorted(set(names))
    return told_apart({name: short_name(name) for name in distinct}, _spelled)


@lru_cache(maxsize=1 << 14)
def short_name(kernel: str) -> str:
    """`kernel` in short, whatever other kernels there are. Never raises: what is no C++ name comes back as it is."""
    text = _plain(kernel)
    if _MANGLED.match(text):
        text = _demangled(text)
    if found := _COLLECTIVE.search(text):
        return f"nccl {found[1]}"
    if not re.search(r"[<(]|::", text):
        return _LIBRARY_TAIL.sub("", text) or text
    parts = _split(_function(text), "::")
    name, arguments = _taken_apart(parts[-1])
    if name in _ELEMENTWISE:
        how = _ELEMENTWISE[name]
        width = f"<{arguments[0]}>" if how == "vectorized" and arguments and arguments[0].isdecimal() else ""
        return _joined("elementwise", f"{how}{width}", _operation(arguments))
    if name == "reduce_kernel":
        return _joined("reduce", _operation(arguments))
    if name == "multi_tensor_apply_kernel":
        return _joined("multi_tensor", _operation(arguments[1:]))
    if name in _VAGUE and arguments and re.match(r"cutlass_\w+$", arguments[0]):
        return arguments[0]
    if name in _VAGUE and len(parts) > 1:
        around = _taken_apart(parts[-2])[0]
        name = f"{around}::{name}"
        work = _WORK.search(parts[-1])
        return _joined(name, work[0] if work and around in _NAMESPACES else "")
    if "flash" in name and arguments and "traits" in arguments[0]:
        return f"{name}<{', '.join(_figures(_taken_apart(_split(arguments[0], '::')[-1])[1]))}>"
    return name or text


def _spelled(kernel: str) -> str:
    """What a short name was made of: parameters tell nothing that the template arguments do not."""
    text = _plain(kernel)
    return _function(text) if re.search(r"[<(]|::", text) else text


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _figures(arguments: Sequence[str]) -> Iterator[str]:
    """The leading numbers of template arguments, and their first numeric type."""
    for argument in arguments:
        if not argument.isdecimal():
            break
        yield argument
    yield from [_TYPES[a] for a in arguments if a in _TYPES][:1]


def _operation(arguments: Sequence[str]) -> str:
    """``add<bf16>``: the function among template arguments that are handed to a kernel, and what it works on."""
    for argument in arguments:
        if argument in _TYPES or re.fullmatch(r"[\w-]+", argument):
            continue
        if argument.startswith(("std::array", "TrivialOffsetCalculator", "OffsetCalculator", "memory::")):
            continue
        if "TensorListMetadata" in argument:
            continue
        return _function_of(argument) + _element(argument, arguments)
    return _element("", arguments)


def _function_of(argument: str) -> str:
    """The name of a function object or of what holds a lambda, in the words of PyTorch's operators: ``add``, ``gelu``."""
    argument = re.sub(r"^(?:void|bool|float|double|auto) ", "", argument)
    name, inner = _outermost(argument)
    if name in _HOLDERS or name in _SCALAR:
        below = next((a for a in inner if a not in _TYPES and not re.fullmatch(r"[\w-]+|.*\*", a)), "")
        if below:
            return _function_of(below) + ("_scalar" if name in _SCALAR else "")
    if name.startswith("CUDAFunctorOn"):
        name = name.split("_", 1)[-1] + "_scalar"
    name = re.sub(
        r"^(?:CUDAFunctor_|launch_)|(?:_?[kK]ernel(?:_?[cC]uda|_?CUDA)?(?:_?[iI]mpl)?|CUDAKernelImpl)$", "", name
    )
    name = re.sub(r"(?:CUDA|_?[fF]unctor|Ops?)$", "", name) or name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _outermost(argument: str) -> tuple[str, list[str]]:
    """The first part of a qualified name that is not a namespace, and its template arguments."""
    for part in _split(argument, "::"):
        name, inner = _taken_apart(part)
        if name and name not in _NAMESPACES and "lambda" not in name:
            return name, inner
    return argument, []


def _element(argument: str, others: Sequence[str]) -> str:
    """``<bf16>``: what a function works on: the first lambda's parameter, else the first type that is handed on."""
    looped = re.sub(r"::\{lambda\(int\)#\d+\}$", "", argument)  # over elements, not of their type
    taken = [words.split(",")[0].strip() for words in _LAMBDA.findall(looped) if words.strip()]
    known = [_TYPES[t] for t in taken[:1] if t in _TYPES]
    known = known or [_TYPES[t] for t in _types_in(argument)] or [_TYPES[t] for t in others if t in _TYPES]
    return f"<{known[0]}>" if known else ""


def _types_in(argument: str) -> Iterator[str]:
    for word in re.split(r"[<>,()]", argument):
        if word.strip() in _TYPES:
            yield word.strip()


def _plain(kernel: str) -> str:
    """`kernel` as every compiler would write it: without anonymous namespaces, casts of constants and spare spaces."""
    text = without_anonymous(kernel).replace("(bool)0", "false").replace("(bool)1", "true")
    text = re.sub(r"\((?:unsigned |signed )?(?:int|long|short|char|bool)\)(?=-?\d)", "", text)
    text = re.sub(r"(?<=[<, ])(\d+)(?:ul|u|l|ull|ll)(?=[,> ])", r"\1", text)
    text = text.replace("[lambda", "{lambda").replace("operator ()", "operator()")
    text = re.sub(r" ?\(instance (\d+)\)\]", r"#\1}", text)
    return re.sub(r" +(?=[*&>])", "", text).strip() or kernel[:LONGEST]


def _function(text: str) -> str:
    """The qualified name of a function with its template arguments, without return type and parameters."""
    for piece in _split(text, " "):
        opening = _opening(piece)
        if opening > 0:
            return piece[:opening]
    return next((p for p in reversed(_split(text, " ")) if "<" in p or "::" in p), text)


def _opening(piece: str) -> int:
    """Where the parameters of a function begin in `piece`: its first parenthesis outside brackets; -1 for none."""
    for place, (character, depth) in enumerate(zip(piece, depths(piece), strict=True)):
        if character == "(" and depth == 0:
            return place if piece[:place].rpartition("::")[2] != "operator" else -1
    return -1


def _split(text: str, by: str) -> list[str]:
    """`text` at each `by` that lies outside all brackets."""
    out, begun = list[str](), 0
    for place, depth in enumerate(depths(text)):
        if depth == 0 and place >= begun and text.startswith(by, place):
            out.append(text[begun:place])
            begun = place + len(by)
    out.append(text[begun:])
    return [part.strip() for part in out if part.strip()] or [text]


def _taken_apart(part: str) -> tuple[str, list[str]]:
    """A name and its template arguments: ``f<int, g<4>>`` -> (``f``, [``int``, ``g<4>``])."""
    begun = len("operator()") if part.startswith("operator()") else 0
    opening = part.find("<", begun)
    paren = part.find("(", begun)
    if opening < 0 or (0 <= paren < opening):
        return part[: paren if paren >= 0 else len(part)].strip(), []
    inside = depths(part)
    closing = next((i for i in range(opening + 1, len(part)) if part[i] == ">" and inside[i] == 0), len(part))
    inner = part[opening + 1 : closing]
    return part[:opening].strip(), _split(inner, ",") if inner.strip() else []


def _demangled(text: str) -> str:
    """The nested name that a mangled one spells out, without its template arguments; `text` where there is none."""
    names, place = [], re.match(r"_ZN?K?", text).end()  # type: ignore[union-attr]
    while found := re.match(r"\d+", text[place:]):
        place += found.end()
        names.append(text[place : place + int(found[0])])
        place += int(found[0])
    kept = [name for name in names if not name.startswith(("_GLOBAL__N_", "_INTERNAL"))]
    return kept[-1] if kept else text
