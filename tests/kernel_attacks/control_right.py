"""Control: right, written with PyTorch's operations. It must pass."""

import torch


def run(inputs, outputs):
    """In float32, rounded once."""
    x = inputs["x"].float()
    scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    outputs["out"].copy_((x * scale * inputs["weight"].float()).to(outputs["out"].dtype))
