"""Verdicts on a kernel as a GPU would have given them, kept as `kernels verify` keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aisp_trace.kernels.artifacts import digest_of, store_verification
from aisp_trace.kernels.verify.result import Timing, Verification

SHAPES = ("rows=1,columns=1", "rows=64,columns=32", "rows=4,columns=128")


def verification(source: Path, *, task: str = "rmsnorm", dtype: str = "float32", **changes: Any) -> Verification:
    """A verdict on `source`; `changes` are those of `made_with`, but for `status` and `shapes`."""
    status: str = changes.pop("status", "verified")
    shapes: Sequence[str] = changes.pop("shapes", SHAPES)
    made = {
        "aisp-trace": "0",
        "python": "3.11",
        "torch": "2.11.0",
        "created_utc": "2026-11-30T00:00:00Z",
        "gpu": "NVIDIA H200",
        "arch": "sm_90",
        "driver": "580.1",
        "cuda": "13.0",
        "nsys": "2025.3",
        "nvcc": "nvcc 13.0",
    }
    return Verification(
        status=status,
        why="",
        reasons=(),
        candidate={"file": source.name, "sha256": digest_of(source.read_bytes()), "language": "CUDA"},
        task=task,
        dtype=dtype,
        device="NVIDIA H200",
        worst=None,
        timings=[Timing("rows=64,columns=32", 20, 1e3, 1e3, 1e3, 1e3, 1e3, 1.0, 8, None, None)],
        kernels=(),
        checks=(),
        calls=1,
        compared=1,
        peak=None,
        made_with={**made, **changes},
        notes=(),
        shapes=shapes,
    )


def keep(root: Path, source: Path, log: str = "", trace: Path | None = None, **asked: Any) -> Path:
    """The folder of a kept verdict, made as `verification` makes it."""
    kept = store_verification(root, source, verification(source, **asked), log, trace)
    assert kept is not None
    return kept
