"""What a kernel is asked to compute: operands, sizes, tolerances, inputs and reference.

torch is imported by the methods that need it, so that a task can be read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Shape = Mapping[str, int]
"""The task's sizes by name."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`bound` limits ||out - ref|| / ||ref||; `element` the worst |out - ref| / max(|ref|, rms of ref)."""

    bound: float
    element: float
    reason: str


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that goes in or comes out. `dtype` "element" is that of the run."""

    name: str
    dims: tuple[str | int, ...]
    dtype: str = "element"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A choice that the generator has."""

    name: str
    default: int | str
    values: tuple[int | str, ...]
    what: str


class Task:
    """One instance per file of ``tasks/``, called ``TASK``."""

    name: str
    title: str
    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    shapes: tuple[Shape, ...]
    scalars: Mapping[str, float]
    tolerances: Mapping[str, Tolerance]
    parameters: tuple[Parameter, ...] = ()

    def bytes(self, shape: Shape, dtype: str) -> int:
        """The fewest bytes through device memory."""
        raise NotImplementedError

    def flops(self, shape: Shape, dtype: str) -> int:
        """Floating-point operations."""
        raise NotImplementedError

    def draw(
        self, generator: torch.Generator, shape: Shape, dtype: str, device: torch.device, kind: str = "random"
    ) -> dict[str, torch.Tensor]:
        """Fresh inputs."""
        raise NotImplementedError

    def reference(self, inputs: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
        """The outputs in float64."""
        raise NotImplementedError

    def eager(self, inputs: Mapping[str, torch.Tensor], shape: Shape, dtype: str) -> dict[str, torch.Tensor]:
        """What one writes in PyTorch."""
        raise NotImplementedError
