"""Whether there is a GPU to time kernels on."""

from __future__ import annotations

from ...traces.errors import UsageError


def has_gpu() -> bool:
    """Whether torch sees one."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def need_gpu(doing: str) -> None:
    """Raise `UsageError` where torch sees none."""
    if not has_gpu():
        raise UsageError(f"a GPU is needed to {doing} and torch sees none here; see `aisp-trace doctor`")
