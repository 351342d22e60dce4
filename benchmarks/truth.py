"""What a generated trace holds, counted while it is made and never read back from the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aisp_trace.benchmarks.kernel_catalog import KERNELS


@dataclass(slots=True)
class Truth:
    """Rows per table, and per planted fact; times in nanoseconds.

    `kernels` and `kernel_ns` are keyed by demangled name. `stages` counts kernels by the stage that DESIGN's rule
    must find: the two outermost ranges, or ``(ambiguous)``, ``(orphan)``, ``(none)``. `copy_bytes` is keyed by
    (copyKind, srcKind, dstKind). `failed_launches` are launch calls without device rows.
    """

    rows: Counter[str] = field(default_factory=Counter)
    kernels: Counter[str] = field(default_factory=Counter)
    kernel_ns: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    copy_bytes: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    failed_launches: int = 0
    inversions: Counter[str] = field(default_factory=Counter)
    end_ns: int = 0

    def count_kernels(self, number: NDArray[np.int64], duration: NDArray[np.int64], stage: NDArray[Any]) -> None:
        """Add kernels by catalogue number, with their durations and the names of their stages."""
        counts = np.bincount(number, minlength=len(KERNELS))
        order = np.argsort(number, kind="stable")
        edges = np.concatenate([[0], np.cumsum(counts)])
        sums = np.concatenate([[0], np.cumsum(duration[order])])
        for kernel, n, total in zip(KERNELS, counts.tolist(), np.diff(sums[edges]).tolist(), strict=True):
            if n:
                self.kernels[kernel.demangled] += n
                self.kernel_ns[kernel.demangled] += total
        names, frequency = np.unique(stage, return_counts=True)
        self.stages.update(dict(zip(names.tolist(), frequency.tolist(), strict=True)))

    def to_json(self) -> Mapping[str, Any]:
        """Plain values; the keys of `copy_bytes` become ``copyKind:srcKind:dstKind``."""
        return {
            "rows": dict(sorted(self.rows.items())),
            "kernels": dict(self.kernels),
            "kernel_ns": dict(self.kernel_ns),
            "stages": dict(self.stages),
            "copy_bytes": {":".join(map(str, key)): value for key, value in self.copy_bytes.items()},
            "failed_launches": self.failed_launches,
            "inversions": dict(self.inversions),
            "end_ns": self.end_ns,
        }
