"""Harness: a mode of torch is left active and sees every operation of the harness."""

from __future__ import annotations

from typing import Any

from torch.overrides import TorchFunctionMode

Tensors = dict[str, Any]


def right(inputs: Tensors) -> Any:
    """The honest answer, in float32 and rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return (x * scale * inputs["weight"].float()).to(inputs["x"].dtype)


class Mode(TorchFunctionMode):  # type: ignore[misc]
    """Passes everything on, for now."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Enter the mode and do not leave it."""
    Mode().__enter__()
    outputs["out"].copy_(right(inputs))
