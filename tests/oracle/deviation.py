"""How far a kernel's result is from its float64 reference, by the plain definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from aisp_trace.kernels.task import Tolerance


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a result is from the reference, over the elements at which both are finite.

    `norm` is ||found - reference|| / ||reference||; `worst` the largest |found - reference| / max(|reference|, rms(reference)). A
    root mean square below the smallest normal number of the type counts as that: the steps below it are no smaller.
    `unlike` counts elements where one is NaN or infinite and the other one is not the same; they are in neither.
    """

    norm: float
    worst: float
    unlike: int

    def within(self, tolerance: Tolerance) -> bool:
        """Whether a right result may look like this; NaN never does."""
        return self.unlike == 0 and self.norm <= tolerance.norm and self.worst <= tolerance.worst


def deviation(found: torch.Tensor, reference: torch.Tensor) -> Deviation:
    """Compare `found` with `reference` (float64). What the reference holds beyond the range of `found`'s type is infinite."""
    import torch

    expected = reference.to(found.dtype)
    finite = expected.isfinite() & found.isfinite()
    same = finite | (expected == found) | (expected.isnan() & found.isnan())
    unlike = int((~same).sum())
    wanted, got = reference[finite], found[finite].double()
    if wanted.numel() == 0:
        return Deviation(0.0, 0.0, unlike)
    smallest = torch.finfo(found.dtype).smallest_normal
    rms = max(float(wanted.square().mean().sqrt()), smallest)
    wrong = (got - wanted).abs()
    norm = float(wrong.square().mean().sqrt()) / rms
    return Deviation(norm, float((wrong / wanted.abs().clamp(min=rms)).max()), unlike)
