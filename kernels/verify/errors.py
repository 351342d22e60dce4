"""How far outputs lie from float64: as a whole, and at their worst element.

NaN and infinities count as right where the reference, rounded to the output's type, has the same. Of edge, special and wide
values only those elements are compared at which PyTorch's own code, in the run's type, is right: where float32 overflows for
everybody, nothing is learned of a kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..task import Tolerance


@dataclass(frozen=True, slots=True)
class Compared:
    """One output. `norm` is ||out - ref|| / ||ref||, `worst` the largest |out - ref| / max(|ref|, rms(ref)); null: not
    finite. A root mean square below the smallest normal number of the type counts as that: the steps below it are no smaller.

    `share` is the larger of both over what is allowed. `at`, `found` and `expected` are of the worst element; of `of` elements
    `compared` were.
    """

    norm: float | None
    worst: float | None
    share: float
    at: tuple[int, ...]
    found: float
    expected: float
    compared: int
    of: int

    @property
    def ok(self) -> bool:
        """Whether both errors are within the tolerance."""
        return self.share <= 1


def compare(
    output: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance, trusted: torch.Tensor | None = None
) -> Compared:
    """`output` against `expected` (float64); `trusted` are the elements to compare, by default all."""
    import torch

    if output.shape != expected.shape:
        return Compared(None, None, math.inf, (), math.nan, math.nan, 0, expected.numel())
    found = output.to(expected.device).double()
    rounded = expected.to(output.dtype).double()
    finite = rounded.isfinite()
    looked = finite if trusted is None else finite & trusted
    same = (found == rounded) | (found.isnan() & rounded.isnan())
    wrong = torch.where(finite, ~found.isfinite(), ~same)
    if trusted is not None:
        wrong &= trusted
    count = int(trusted.sum()) if trusted is not None else expected.numel()
    if bool(wrong.any()):
        at = int(wrong.flatten().to(torch.uint8).argmax())
        return _told(found, expected, at, None, None, math.inf, count)
    size = float(torch.linalg.vector_norm(torch.where(looked, expected, 0.0)))
    difference = torch.where(looked, found - expected, 0.0).abs()
    rms = _rms(size, int(looked.sum()), output.dtype)
    norm = float(torch.linalg.vector_norm(difference)) / (rms * math.sqrt(max(int(looked.sum()), 1)))
    each = difference / torch.where(looked, expected, 0.0).abs().clamp(min=rms)
    at = int(each.flatten().argmax()) if each.numel() else 0
    worst = float(each.flatten()[at]) if each.numel() else 0.0
    share = max(_share(norm, tolerance.norm), _share(worst, tolerance.worst))
    return _told(found, expected, at, _finite(norm), _finite(worst), share, count)


def trusted_elements(eager: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    """Elements at which `eager` is within the tolerance of one element, or not finite as the reference is."""
    import torch

    found, rounded = eager.to(expected.device).double(), expected.to(eager.dtype).double()
    finite = rounded.isfinite()
    clean = torch.where(finite, expected, 0.0)
    rms = _rms(float(torch.linalg.vector_norm(clean)), int(finite.sum()), eager.dtype)
    near = (found - expected).abs() <= tolerance.worst * clean.abs().clamp(min=rms)
    same = (found == rounded) | (found.isnan() & rounded.isnan())
    return torch.where(finite, near, same)


def _told(
    found: torch.Tensor,
    expected: torch.Tensor,
    at: int,
    norm: float | None,
    worst: float | None,
    share: float,
    count: int,
) -> Compared:
    where: list[int] = []
    left = at
    for size in reversed(found.shape):
        left, index = divmod(left, size)
        where.insert(0, index)
    has = found.numel() > 0
    return Compared(
        norm=norm,
        worst=worst,
        share=share,
        at=tuple(where),
        found=float(found.flatten()[at]) if has else math.nan,
        expected=float(expected.flatten()[at]) if has else math.nan,
        compared=count,
        of=expected.numel(),
    )


def _rms(size: float, count: int, dtype: torch.dtype) -> float:
    """Of `count` elements whose norm is `size`; at least the smallest normal number of `dtype`."""
    import torch

    return max(size / math.sqrt(max(count, 1)), float(torch.finfo(dtype).smallest_normal))


def _share(value: float, allowed: float) -> float:
    return value / allowed if allowed else math.inf if value else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
