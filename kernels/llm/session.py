"""Everything that happened with a model, in one folder of the artefacts; a session goes on from there.

    artifacts/kernels/rmsnorm/3f2a.../         the template that it began with: source.cu, parameters.json
        llm-001/
            session.json                       task, bounds used, every attempt with its reason
            exchange-0001.json                 one exchange: prompt, what came back or what failed, tokens; no key, no address
            answer-01.cu, candidate-01.cu      what the model wrote, and the file made of it; also of attempts that failed

An exchange is written before it is sent and once more when it is over, so that none is lost whatever ends the program. What a GPU
verified lies beside it as every verification does, in the folder of its own source.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ...capture.host import now_utc
from ...traces.documents import KERNEL, read, read_bytes, read_text
from ...traces.errors import InputError
from ...traces.output import make_container, reason, replacing
from ..artifacts import SESSION, digest_of, folder_of, keep_source
from ..task import Settings
from .result import OUTCOMES, WAITING, Attempt

SCHEMA: Final = "aisp-trace/kernel-session/1"
FILE: Final = "session.json"
MOST: Final = 999
"""Sessions of one template."""


@dataclass(slots=True)
class Session:
    """One conversation about one task. `rounds` and `tokens` are what it has used."""

    folder: Path
    task: str
    dtype: str
    arch: str
    shapes: Sequence[str]
    settings: Settings
    model: str
    created_utc: str = ""
    rounds: int = 0
    tokens: int = 0
    exchanges: int = 0
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def best(self) -> Attempt | None:
        """The fastest verified one."""
        good = [one for one in self.attempts if math.isfinite(one.score_ns)]
        return min(good, key=lambda one: one.score_ns, default=None)

    @property
    def waiting(self) -> Attempt | None:
        """The one that has to be verified elsewhere."""
        return next((one for one in reversed(self.attempts) if one.number and one.outcome == WAITING), None)

    def of(self, sha256: str) -> Attempt | None:
        """The attempt whose source has this digest."""
        return next((one for one in self.attempts if one.sha256 == sha256), None)

    def source(self, attempt: Attempt) -> bytes:
        """What the attempt made; raises `InputError` if it is no longer that."""
        content = read_bytes(self.folder / attempt.file, KERNEL)
        if digest_of(content) != attempt.sha256:
            raise InputError(f"{self.folder / attempt.file} is not what was written; begin anew without --result")
        return content

    def keep(self, attempt: Attempt, content: bytes) -> Path:
        """Write down what `attempt` made; the file's place."""
        attempt.sha256 = digest_of(content)
        attempt.file = f"candidate-{attempt.number:02}.cu"
        _write(self.folder / attempt.file, content)
        return self.folder / attempt.file

    def keep_answer(self, attempt: Attempt, source: str) -> None:
        """Write down the code block as the model wrote it."""
        attempt.answer = f"answer-{attempt.number:02}.cu"
        _write(self.folder / attempt.answer, source.encode())

    def answer(self, attempt: Attempt) -> str:
        """The code block that the attempt was made of."""
        return read_text(self.folder / attempt.answer, KERNEL)

    def log(self, number: int, exchange: Mapping[str, Any]) -> str:
        """Write down an exchange; its name."""
        name = f"exchange-{number:04}.json"
        _write(self.folder / name, _json({"number": number, **exchange}))
        return name

    def save(self) -> None:
        """Write down where the session stands."""
        found = {"schema": SCHEMA, **asdict(self)}
        del found["folder"]
        _write(self.folder / FILE, _json(found))


def begin(root: Path, session: Session, template: bytes) -> Session:
    """A new folder for `session`, which begins with the source `template`. Raises `InputError` where none can be made."""
    make_container(root, "--artifacts")
    top = folder_of(root, session.task, digest_of(template))
    try:
        keep_source(root, top, template, ".cu")
        session.folder = _new(top)
    except OSError as exc:
        raise InputError(f"the session cannot be kept in {top}: {reason(exc)}; name a folder with --artifacts") from exc
    session.created_utc = now_utc()
    return session


def find(root: Path, task: str, sha256: str) -> Session:
    """The newest session with an attempt whose source has this digest; raises `InputError` if there is none."""
    found = []
    for file in sorted((root / "kernels" / task).glob(f"*/{SESSION}*/{FILE}")):
        session = load(file)
        if session.of(sha256) is not None:
            found.append(session)
    if not found:
        raise InputError(
            f"no session of {task} in {root / 'kernels'} made the source {sha256[:20]} that was verified; "
            "go on where it was emitted, with the same --artifacts"
        )
    return max(found, key=lambda one: one.created_utc)


def load(file: Path) -> Session:
    """The session in `file`; raises `InputError` if it holds none."""
    document = read(file, KERNEL)
    try:
        if document.pop("schema") != SCHEMA:
            raise ValueError
        attempts = [Attempt(**one) for one in document.pop("attempts")]
        session = Session(folder=file.parent, attempts=attempts, **document)
        names = [name for one in attempts for name in (one.file, one.answer)]
        if not all(one.outcome in OUTCOMES for one in attempts) or any(Path(name).name != name for name in names):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InputError(f"{file} is not a session of this version; begin anew without --result") from exc
    return session


def result_digest(document: Any, task: str) -> str:
    """The digest of the source that a verification is about; raises `InputError` if `document` is none of `task`."""
    candidate = document.get("candidate") if isinstance(document, dict) else None
    sha256 = candidate.get("sha256") if isinstance(candidate, dict) else None
    if not isinstance(sha256, str) or document.get("task") != task:
        raise InputError(
            f"the result is not a verification of {task}; give what `kernels verify FILE --task {task} --json` printed"
        )
    return sha256


def _new(top: Path) -> Path:
    for number in range(1, MOST + 1):
        folder = top / f"{SESSION}{number:03}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise InputError(f"{top} has {MOST} sessions; delete some")


def _write(file: Path, content: bytes) -> None:
    try:
        with replacing(file) as building:
            building.write_bytes(content)
    except OSError as exc:
        raise InputError(f"{file} cannot be written: {reason(exc)}") from exc


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
