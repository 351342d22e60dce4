"""One trace in, all its numbers out.

    Trace -> Attributed (attribution/attribute.py) -> one function a table (tables.py) -> Analysis

Nothing here touches a file or prints. The whole analysis is a function of the trace and the few choices below.
"""

from __future__ import annotations

from typing import Final

from ..traces.errors import UsageError
from ..traces.model import Trace
from ..traces.samples import Sampler, no_samples
from .accounts.peaks import Peaks
from .attribution.attribute import SEEKING, attribute
from .attribution.selection import Selection
from .attribution.steady import Seeking
from .attribution.window import STEADY, WindowSpec
from .result import Analysis, Choices
from .tables import make_tables

ATTRIBUTION_RULES: Final = ("process", "thread")


def analyze(
    trace: Trace,
    *,
    variant: str | None = None,
    window: WindowSpec = None,
    attribution: str = "process",
    domain: str | None = None,
    selection: Selection | None = None,
    fold: bool = True,
    largest_gaps: int = 20,
    peaks: Peaks | None = None,
    details: bool = True,
    work: bool = True,
    most_stages: int | None = None,
    seeking: Seeking = SEEKING,
    samples: Sampler = no_samples,
    untraced_ns: int | None = None,
    untraced_off: float | None = None,
) -> Analysis:
    """All numbers of `trace`; without `details` the tables that `tables` calls details stay empty, without `work` the one that
    comparisons are made of.

    `window` limits the time: instants ``(start_ns, end_ns)``, a range by name or path (``measured`` for our own runs), or
    ``steady`` iterations, which `seeking` says how to find, and whether they are the window where none is given.
    `attribution` is ``process`` (with the cross-thread rule) or ``thread`` (a range sees only its own thread's launches,
    as ``nsys stats`` does). `domain` chooses the NVTX domain of the stages, `selection` which of its ranges are stages.
    `fold`: siblings whose names differ in numbers alone are one stage (`attribution.folding`).
    `peaks` are what copies reached when this hardware was calibrated. Beyond the `most_stages` costliest paths, stages are
    folded (`attribution.bounded`). `samples` reads the recorder's CPU samples of the largest gaps.
    `untraced_ns` is how long an iteration takes where nothing records it, which changes are predicted for (`headroom`), and
    `untraced_off` the standard error of that, as a part of it.

    Raises `UsageError` for an unknown rule, domain or range, and for a selection that leaves nothing.
    """
    if attribution not in ATTRIBUTION_RULES:
        raise UsageError(f"attribution {attribution!r} does not exist; choose {' or '.join(ATTRIBUTION_RULES)}")
    a = attribute(
        trace,
        window=window,
        across=attribution == "process",
        domain=domain,
        selection=selection,
        fold=fold,
        most=most_stages,
        seeking=seeking,
    )
    asked_for = {
        "peaks": peaks,
        "largest_gaps": largest_gaps,
        "work": work,
        "samples": samples,
        "untraced_ns": untraced_ns,
        "untraced_off": untraced_off,
    }
    tables = make_tables(a, asked_for, details=details)
    asked = selection or Selection()
    chosen = STEADY if a.is_steady else window
    choices = Choices(attribution, a.found.domain, asked.stages, asked.depth, asked.below, chosen, a.folded, fold)
    first = trace.ops["start_ns"].min()
    return Analysis.of(
        tables,
        variant=variant,
        meta=trace.meta,
        choices=choices,
        steady=a.steady,
        first_op_ns=first if isinstance(first, int) else None,
    )
