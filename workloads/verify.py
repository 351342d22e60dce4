"""Did a variant compute what was asked? Poison, and comparison with a float64 reference.

    outputs of the measured iterations  -> compare
    poison outputs and scratch, one more iteration (same code, not timed) -> compare again

The poison is one particular NaN. Copies keep its bits, arithmetic turns it into another NaN, so an element that still
holds it was never written, while any other NaN was computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

import torch

from ..traces.run import Output
from .interface import Tolerance

_POISON: Final = {
    2: (torch.int16, 0x7FDE),  # a NaN both as float16 and as bfloat16
    4: (torch.int32, 0x7FC0DEAD),
    8: (torch.int64, 0x7FF80000DEADBEEF),
}
"""Bytes of an element -> integer type of that width and the bits: quiet NaNs with a payload no arithmetic produces."""


def poison(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite every element. Raises `TypeError` for element types in which no value is improbable (1 byte, int16)."""
    for tensor in tensors:
        integers, pattern = _pattern(tensor)
        tensor.detach().view(integers).fill_(pattern)


def poisoned(tensor: torch.Tensor) -> int:
    """How many elements still hold the poison."""
    integers, pattern = _pattern(tensor)
    return int((tensor.detach().view(integers) == pattern).sum())


def _pattern(tensor: torch.Tensor) -> tuple[torch.dtype, int]:
    size = tensor.element_size()
    if size not in _POISON or tensor.is_complex() or not (tensor.is_floating_point() or size >= 4):
        raise TypeError(f"an output of type {tensor.dtype} cannot be poisoned; give floats, int32 or int64")
    return _POISON[size]


def compare(
    outputs: Sequence[torch.Tensor], reference: Iterable[torch.Tensor], tolerance: Tolerance | Sequence[Tolerance]
) -> Output:
    """How far `outputs` lie from `reference`: the largest ||out - ref|| / ||ref|| of any tensor, in float64.

    The largest, not the whole's, because one wrong microbatch among many would vanish in a common norm. With a tolerance for
    each tensor, the error is that of the tensor that uses most of its own. Missing, surplus or misshapen tensors, no
    tensors at all, and NaN or inf anywhere give a null error and are not ok. Raises `ValueError` for too few tolerances.
    """
    each = [tolerance] if isinstance(tolerance, Tolerance) else list(tolerance)
    found: list[tuple[float, float, Tolerance]] = []
    unwritten = 0
    where = "no tensor"
    for number, (output, expected) in enumerate(zip_longest(outputs, reference)):
        if output is not None:
            unwritten += poisoned(output)
        if number >= len(each) > 1 and output is not None and expected is not None:
            raise ValueError(f"there are {len(each)} tolerances and more outputs; give one for each")
        allowed = each[min(number, len(each) - 1)]
        error = _relative_error(output, expected)
        found.append((error / allowed.bound if allowed.bound else math.inf if error else 0.0, error, allowed))
        if expected is not None:
            where = f"{str(expected.dtype).removeprefix('torch.')} on {expected.device.type}"
    found = found or [(math.inf, math.inf, each[0])]
    _, worst, allowed = max(found, key=lambda one: one[:2])
    return Output(
        error=worst if math.isfinite(worst) else None,
        tolerance=allowed.bound,
        reference=f"{where}, from the same inputs; tolerance: {allowed.reason}",
        poisoned=unwritten,
        ok=worst <= allowed.bound and unwritten == 0,
        tolerances=tuple(sorted({one.bound for one in each})),
    )


def worse(first: Output, second: Output) -> Output:
    """Of two comparisons with one reference, the one that speaks more against the variant."""
    return max(first, second, key=lambda output: (not output.ok, output.poisoned, output.used))


def _relative_error(output: torch.Tensor | None, expected: torch.Tensor | None) -> float:
    if output is None or expected is None or output.shape != expected.shape:
        return math.inf
    if expected.dtype != torch.float64:
        raise TypeError(f"a reference must be float64, not {expected.dtype}")
    # Not in place, which would change an output that is float64 itself.
    difference = output.detach().to(expected.device).to(torch.float64) - expected
    size = float(torch.linalg.vector_norm(expected))
    error = float(torch.linalg.vector_norm(difference))
    if not math.isfinite(error) or not math.isfinite(size):
        return math.inf  # max() would pass over a NaN
    if size == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return error / size
