"""One side of a comparison: an analysed recording, and what its run says beside the trace."""

from __future__ import annotations

from dataclasses import dataclass

from ...analyze.comparison.amounts import Amounts
from ...analyze.comparison.changes import KernelTotals
from ...analyze.comparison.host_times import HostSide
from ...analyze.comparison.sides import whole_iterations
from ...analyze.result import Analysis
from ...traces.run import Run
from ..judging.between import Member, slowdown
from ..judging.energy import Drawn, drawn_by


@dataclass(frozen=True, slots=True)
class Side:
    """One analysed recording. `root` is the path of its window's range, `member` null for a bare trace. `host` is there
    where some side has no device operations, so that host times are all that can be compared."""

    name: str
    window: str | None
    root: str
    analysis: Analysis
    kernels: KernelTotals
    amounts: Amounts
    run: Run | None
    member: Member | None
    host: HostSide | None = None

    @property
    def iterations(self) -> int:
        """Whole iterations in the window; 0 where it cuts one, or none is marked."""
        return len(whole_iterations(self.analysis))

    @property
    def slowdown(self) -> float | None:
        """How many times as long an iteration took while it was traced; null where either time is unknown."""
        return None if self.member is None else slowdown(self.member)

    @property
    def drawn(self) -> Drawn | None:
        """Energy and clock of the untraced rounds; null where nobody read them, and where a window was chosen."""
        if self.member is None or self.window is not None:
            return None
        return drawn_by(self.member.evidence, self.member.variant)
