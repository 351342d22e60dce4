"""Predictions for what a word of the command line names: a variant of a run, whose untraced rounds count, or a bare trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...traces.content import one_line
from ...traces.errors import InputError
from ...traces.run import Run
from ...traces.shown import Shown
from ..attribution.attribute import attribute
from ..attribution.steady import Seeking
from ..calibrated import peaks_for
from ..operands import Operand, first_recorded
from .estimate import REFUSED, Base, Prediction, base_of, predict
from .helps import ladder, pays, tried
from .iterations import model
from .path import critical_path
from .rates import rates_of


@dataclass(frozen=True, slots=True)
class Predicted(Shown):
    """What was found for one recording, of a `variant` of a `run` or a bare trace, and which changes were `asked` for.

    `each` are changes by themselves, `together` those asked for, one after the other; `after` says of those that pay, unasked,
    how long an iteration takes with all before them, too.
    """

    def __repr__(self) -> str:
        best = min(((one.estimate_ns, one.changes) for one in self.each if one.estimate_ns), default=None)
        gain = "" if best is None else f", at best {self.base.now_ns / best[0]:.2f}x by {' then '.join(best[1])}"
        return f"<Predicted {one_line(self.text[-80:])}: {len(self.each)} changes{one_line(gain[:80])}>"

    text: str
    run: Run | None
    variant: str | None
    asked: tuple[str, ...]
    base: Base
    each: tuple[Prediction, ...]
    together: Prediction | None
    after: Mapping[tuple[str, ...], int] = field(default_factory=dict)


def predicted(given: Operand, changes: Sequence[str], domain: str | None, seeking: Seeking) -> Predicted:
    """Predictions for `given`, of the `changes` or, without any, of all that apply, the largest gain first.

    Raises `UsageError` for a change that is not known, and `InputError` where there is nothing to predict from.
    """
    given = first_recorded(given)
    source = given.source if given.variant is None else given.source.only(given.variant)
    variant, trace = next(source.traces(), (None, None))
    if trace is None:
        raise InputError(f"{given.text} has no recording; capture it with --profile minimal")
    rates = rates_of(trace.devices, peaks_for(source.run, trace, Path.cwd()))
    run = given.source.run
    m = model(attribute(trace, domain=domain, seeking=seeking))
    base = base_of(m, rates, **source.untraced(variant))
    if changes:
        made = tuple(predict(base, [said]) for said in changes)
        return Predicted(
            given.text, run, variant, tuple(changes), base, made, predict(base, changes) if len(changes) > 1 else None
        )
    each = tried(base, critical_path(m.a, m))
    shown = [p for p in each if p.grade == REFUSED or pays(base, p)]
    return Predicted(given.text, run, variant, (), base, tuple(shown), None, ladder(base, each))
