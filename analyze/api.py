"""What ``import aisp_trace`` offers for reading: ``aisp_trace.open``, ``aisp_trace.analyze`` and ``aisp_trace.predict``."""

from __future__ import annotations

from pathlib import Path

from ..traces.model import Trace
from .attribution.steady import Seeking
from .headroom.predicted import Predicted, predicted
from .operands import newest, operand, single
from .result import Analysis
from .sources import Asked, Source


def open_recording(source: str | Path) -> Trace:
    """The tables of one recording: a trace file, ``RUN:VARIANT``, or a run folder that recorded one variant.

    Raises `InputError` for what does not exist or cannot be read, `UsageError` for a run with several recordings.
    """
    ((_, trace),) = _one(source).traces()
    return trace


def analyze_recording(
    source: str | Path | Trace,
    *,
    window: str | None = None,
    attribution: str = "process",
    domain: str | None = None,
    stages: str | None = None,
    depth: int | None = None,
    below: str | None = None,
    gaps: int = 20,
    fold: bool = True,
    iterations: str | None = None,
    skip: int | None = None,
) -> Analysis:
    """All numbers of one recording, as ``aisp-trace analyze`` gives them; the options are the command's.

    `source` is as for `open_recording`, or a `Trace` that is open. `window` is ``1.5ms:20ms``, a range's name or ``all``; by
    default that of the command, for a bare trace its steady iterations, which `iterations` and `skip` choose. `below` is
    ``--range``, `fold` false is ``--no-fold``. Raises as `open_recording` does, and `UsageError` for an option that means
    nothing here.
    """
    asked = Asked(
        window,
        attribution,
        domain,
        gaps,
        stages,
        depth,
        below,
        fold=fold,
        steady=True,
        iterations=iterations,
        skip=skip,
    )
    chosen = Source(None, Path(source.meta.file), trace=source) if isinstance(source, Trace) else _one(source)
    (opened,) = chosen.open(asked)
    return opened.analysis


def predict_recording(
    source: str | Path | None = None,
    *changes: str,
    domain: str | None = None,
    iterations: str | None = None,
    skip: int | None = None,
) -> Predicted:
    """How long an iteration would take after `changes`, as ``aisp-trace predict`` says it; without any, after all known ones.

    `source` is a trace, ``RUN:VARIANT``, or a run; by default the newest run. Raises `UsageError` for a change that is not known,
    and `InputError` where there is nothing to predict from.
    """
    given = newest() if source is None else operand(str(source))
    return predicted(given, changes, domain, Seeking(iterations, skip))


def _one(source: str | Path) -> Source:
    """What `source` names as the source of a single trace."""
    chosen = single(operand(str(source)))
    return chosen.source if chosen.variant is None else chosen.source.only(chosen.variant)
