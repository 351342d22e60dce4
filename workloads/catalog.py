"""The workloads that come with the project, as plain facts. Imports no torch, so that listing them costs nothing.

Adding a workload is one program file in this folder and one `Entry` here; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..traces.errors import UsageError
from ..traces.run import nearest

SIZES: Final = ("tiny", "default", "large")
"""tiny: continuous integration, under a second; default: what claims are made for; large: the same shape, longer."""

DEVICES: Final = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a workload without running it.

    `variants` are (name, description) in order: "baseline" first, then the rungs, each adding one change to the one
    before, "optimized" last. `needs` and `proves` are for people. `process_per_variant` says that variants must not
    share a process (allocator cases: the first would leave its pool to the second).
    """

    name: str
    title: str
    variants: tuple[tuple[str, str], ...]
    needs: str
    proves: str
    devices: tuple[str, ...] = DEVICES
    sizes: tuple[str, ...] = SIZES
    default_iterations: int = 10
    default_warmup: int = 3
    process_per_variant: bool = False

    @property
    def module(self) -> str:
        """The program, for ``python -P -m``."""
        return f"{__package__}.{self.name}"

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The variants' names, in order."""
        return tuple(name for name, _ in self.variants)


CATALOG: Final[tuple[Entry, ...]] = (
    Entry(
        name="pipeline_sequential",
        title="many microbatches through h2d, compute and d2h",
        variants=(
            ("baseline", "one microbatch at a time through pageable memory, every copy waited for"),
            ("optimized", "pinned memory, double buffers, one stream (on a CPU: one thread) per stage"),
        ),
        needs="any machine; real copies need a CUDA GPU",
        proves="copies of one microbatch hide under the compute of another, so that time falls to the longest stage",
    ),
)


def find(name: str) -> Entry:
    """The entry called `name`; raises `UsageError` naming the closest one that exists."""
    for entry in CATALOG:
        if entry.name == name:
            return entry
    names = [entry.name for entry in CATALOG]
    raise UsageError(f"no workload is called {name!r}{nearest(name, names)}; `aisp-trace list` shows all {len(names)}")
