"""The way of `predict --write`: a claim from a prediction, shown and written to the machine's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..analyze.headroom.predicted import Predicted
from ..report.terminal.console import say, say_lines
from ..traces.errors import UsageError
from ..traces.run import RUNS_DIR, runs_below


def write(found: Predicted, variant: str, asked: Path | None) -> None:
    """Write that `variant` will take what was predicted, for the changes asked for, to the file in `asked`, else in
    ``./expectations``.

    Raises `UsageError` where nothing can be claimed: no run, no change asked for, or the variant was measured already.
    """
    from ..analyze.headroom.stages import stage_times
    from ..expectations.claims.diff import differences
    from ..expectations.claims.prediction import predicted_claim, refuse_measured, with_prediction
    from ..expectations.claims.write import place_to_write
    from ..report.terminal.expectations import differences_table

    if found.run is None or found.variant is None:
        raise UsageError(f"{found.text} is not a run; a claim is about a workload and its rounds, so capture one first")
    if not found.asked:
        raise UsageError("--write needs to know what will be changed; name it with --change")
    made = found.together or found.each[0]
    after = None if made.graph is None else replace(found.base.situation, graph=made.graph)
    times = {} if after is None else stage_times(after)
    claim = predicted_claim(found.run, found.variant, variant, found.base, made, times)
    refuse_measured([found.run, *runs_below(Path(RUNS_DIR))], claim)
    place = place_to_write(asked, found.run.manifest.hardware.key, Path.cwd())
    claims = with_prediction(place.file.claims, claim)
    place.write(claims)
    say()
    say_lines(differences_table(differences(place.file.claims, claims), None))
    say(f"Written to {place.path} as {claim.id}; commit it before {variant} is captured.")
