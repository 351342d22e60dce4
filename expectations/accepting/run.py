"""From runs to a proposal for one expectation file, and from the proposal to the file.

runs -> evidence;  folder -> present claims;  both -> proposal
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...traces.errors import UsageError
from ...traces.run import Run
from ..claims.wanted import load_wanted
from ..claims.write import Place, place_to_write
from ..judging import judged
from ..judging.evidence import gather
from ..judging.kept import contradictions
from .accept import Proposal, propose
from .occasions import Occasion


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What accepting `occasions` would write to `place`."""

    occasions: tuple[Occasion, ...]
    place: Place
    proposal: Proposal

    def write(self) -> None:
        """Write the proposal; raises `InputError` if the file has changed meanwhile or cannot be written."""
        self.place.write(self.proposal.claims)


def of_rounds(run: Run, only_ratio: bool = False) -> Proposal:
    """What the rounds of `run` propose for the project's folder, its recordings left unread; raises as `prepare` does."""
    evidence = gather(run, {}, contradicted=tuple(contradictions(run)))
    place = place_to_write(None, evidence.hardware_key, Path.cwd())
    return propose([Occasion(evidence, run.manifest)], place.file, place.others, only_ratio=only_ratio)


def prepare(
    runs: Sequence[Run],
    asked: Path | None,
    *,
    only: Collection[str] = (),
    allow_loosen: bool = False,
    allow_wide: bool = True,
    only_ratio: bool = False,
) -> Acceptance:
    """What `runs` propose for the file in `asked` (a folder, or one file; null: the project's folder).

    `only` limits it to these claims; it and the other options are those of `propose`. Raises `UsageError` for no run,
    `InputError` where a file cannot be read or written.
    """
    occasions = tuple(Occasion(judged.evidence_of(run), run.manifest) for run in runs)
    if not occasions:
        raise UsageError("no run was named to accept")
    place = place_to_write(asked, occasions[0].evidence.hardware_key, Path.cwd())
    wanted = load_wanted(place.path.parent)
    proposal = propose(
        occasions,
        place.file,
        place.others,
        wanted,
        only=only,
        allow_loosen=allow_loosen,
        allow_wide=allow_wide,
        only_ratio=only_ratio,
    )
    return Acceptance(occasions, place, proposal)
