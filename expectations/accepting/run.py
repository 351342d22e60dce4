"""From runs to a proposal for one expectation file, and from the proposal to the file.

runs -> evidence;  folder -> present claims;  both -> proposal
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...traces.documents import EXPECTATIONS, read_text
from ...traces.errors import UsageError
from ...traces.run import Run
from ..claims.load import file_name, folder_to_write, load_file, load_folder
from ..claims.wanted import load_wanted
from ..claims.write import file_text, output, write_file
from ..judging import judged
from ..judging.evidence import gather
from ..model import ExpectationFile
from .accept import Proposal, propose
from .occasions import Occasion


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What accepting `occasions` would write to `path`, which holds `before` (null: it does not exist yet).

    `chosen` says why that folder: "option", "project" or "package".
    """

    occasions: tuple[Occasion, ...]
    path: Path
    chosen: str
    before: str | None
    target: ExpectationFile
    proposal: Proposal

    def write(self) -> None:
        """Write the proposal; raises `InputError` if the file has changed meanwhile or cannot be written."""
        text = file_text(self.before, self.target.hardware_key, self.proposal.claims)
        write_file(self.path, text, self.before)


def prepare(
    runs: Sequence[Run], asked: Path | None, *, only: Collection[str] = (), allow_loosen: bool = False
) -> Acceptance:
    """What `runs` propose for the file in `asked` (a folder, or one file; null: the project's folder, else the package's).

    `only` limits it to these claims. Raises `UsageError` for no run, `InputError` where a file cannot be read or written.
    """
    occasions = tuple(Occasion(gather(run, judged.analyses_of_run(run)), run.manifest) for run in runs)
    if not occasions:
        raise UsageError("no run was named to accept")
    path, chosen, target, others = _target(asked, occasions[0].evidence.hardware_key)
    output(path).check()
    before = read_text(path, EXPECTATIONS) if path.is_file() else None
    wanted = load_wanted(path.parent)
    proposal = propose(occasions, target, others, wanted, only=only, allow_loosen=allow_loosen)
    return Acceptance(occasions, path, chosen, before, target, proposal)


def _target(asked: Path | None, key: str) -> tuple[Path, str, ExpectationFile, tuple[ExpectationFile, ...]]:
    """The file to write with what it holds, and the other files of its folder."""
    if asked is not None and asked.is_file():
        target = load_file(asked)
        found = load_folder(asked.parent, "option")
        return asked, "option", target, tuple(f for f in found.files if f.hardware_key != target.hardware_key)
    folder, chosen = folder_to_write(asked, Path.cwd())
    found = load_folder(folder, chosen)
    target = next((f for f in found.files if f.hardware_key == key), ExpectationFile(key, ()))
    return folder / file_name(key), chosen, target, tuple(f for f in found.files if f.hardware_key != key)
