"""Not a kernel: PyTorch's own function."""

from __future__ import annotations

from typing import Any

import torch

Tensors = dict[str, Any]


def run(inputs: Tensors, outputs: Tensors) -> Tensors:
    """Call it."""
    x = inputs["x"]
    return {"out": torch.nn.functional.rms_norm(x, x.shape[1:], inputs["weight"], 1e-6)}
