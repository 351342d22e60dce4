"""What is kept of a kernel: one folder by the digest of its source, below ``artifacts/kernels`` of the current folder.

    artifacts/kernels/rmsnorm/3f2a.../
        source.cu                 the bytes that the digest is of (a Python candidate: source.py)
        parameters.json           what an emitted file says of its parameters
        emitted-sm_90/            what `kernels emit` compiled: compiler.log, provenance.json
        float32-sm_90/            one verification, of an element type on an architecture; a later one replaces it
            verification.json     as `kernels verify --json` prints it
            timings.json          its part about times
            trace.sqlite          the recording it rests on, scrubbed
            compiler.log          registers, spills and shared memory of each kernel
            provenance.json       versions, and the digest of each file beside it
        llm-001/                  what a model was asked and answered, beginning with this source (llm/session.py)

A verification with its provenance is a `Stamp`, which the guard asks (guard.py). The digests find damage and careless edits. They
are not a signature: whoever can write the folder can write a stamp that holds.

No file names a user, a host or a path. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..capture.host import now_utc, sources_of
from ..traces.documents import KERNEL, read, read_bytes
from ..traces.errors import InputError
from ..traces.output import make_container, reason
from ..traces.version import version
from .task import Shape
from .verify.result import REFUSED, VERIFIED, Verification

SCHEMA: Final = "aisp-trace/kernel-artifacts/1"
FOLDER: Final = Path("artifacts")
"""Below the current one."""

VERIFICATION: Final = "verification.json"
PROVENANCE: Final = "provenance.json"
EMITTED: Final = "emitted"
SESSION: Final = "llm-"
"""Begins the name of a folder with a conversation (llm/session.py), which no bundle takes."""

DIGITS: Final = 20
"""Hexadecimal digits of SHA-256 that name a folder."""

MOST_BUNDLED: Final = 64 << 20
"""Bytes of artefacts in one bundle. A verification has about 50 kB without its recording, which takes some MB."""

_FILES: Final = (VERIFICATION, "timings.json", "compiler.log", "trace.sqlite")
_PRIVATE: Final = (".", SESSION)
_FACTS: Final = ("torch", "driver", "gpu", "cuda", "nsys", "python")
_PARAMETER: Final = re.compile(r"(?m)^//   (\w+) = (\S+)$")
_SIZE: Final = re.compile(r"(\w+)=([1-9]\d{0,17})")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one folder says was verified. `problem` is why it cannot be believed; empty: its digests hold."""

    folder: Path
    task: str
    dtype: str
    arch: str
    compiler: str
    status: str
    source_sha256: str
    shapes: Sequence[Shape]
    created_utc: str
    problem: str = ""

    @property
    def source(self) -> Path:
        """The CUDA file that was verified."""
        return self.folder.parent / "source.cu"


def digest_of(content: bytes) -> str:
    """The whole SHA-256 of a source."""
    return hashlib.sha256(content).hexdigest()


def folder_of(root: Path, task: str, sha256: str) -> Path:
    """Where the artefacts of the source with this digest lie."""
    return root / "kernels" / task / sha256[:DIGITS]


# -- writing -----------------------------------------------------------------------------------------------------------


def store_emitted(root: Path, task: str, source: Path, arch: str, compiler: str, log: str) -> Path:
    """Keep what was emitted and compiled; returns the folder. Raises `UsageError` or `InputError` if it cannot be."""
    return _store(root, task, source, f"{EMITTED}-{arch}", {"compiler.log": log}, {"arch": arch, "compiler": compiler})


def store_verification(root: Path, source: Path, found: Verification, log: str, trace: Path | None) -> Path | None:
    """Keep a verdict that a GPU gave; null for any other. `trace` is the recording, an nsys export.

    Raises `UsageError` or `InputError` if it cannot be written, or if `source` is no longer what was verified.
    """
    made = found.made_with
    if found.status not in (VERIFIED, REFUSED) or "arch" not in made:
        return None
    if digest_of(source.read_bytes()) != found.candidate["sha256"]:
        raise InputError(f"{source} was changed while it was verified, so nothing was kept; verify it again")
    document = found.document()
    files: dict[str, Any] = {
        VERIFICATION: document,
        "timings.json": {key: document[key] for key in ("task", "dtype", "device", "timings", "kernels", "peak")},
        "compiler.log": log,
    }
    facts = {"arch": made["arch"], "compiler": made.get("nvcc"), **{key: made.get(key) for key in _FACTS}}
    return _store(root, found.task, source, f"{found.dtype}-{made['arch']}", files, facts, trace)


def _store(
    root: Path,
    task: str,
    source: Path,
    name: str,
    files: Mapping[str, Any],
    facts: Mapping[str, Any],
    trace: Path | None = None,
) -> Path:
    from ..traces.scrub.nsys import scrub_sqlite
    from ..traces.scrub.personal import Policy
    from ..traces.scrub.run import clean_document

    content = source.read_bytes()
    top = folder_of(root, task, digest_of(content))
    make_container(root, "--artifacts")
    try:
        keep_source(root, top, content, source.suffix)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=top) as temporary:
            building = Path(temporary) / name
            building.mkdir()
            for file, value in files.items():
                clean = clean_document(value)
                (building / file).write_text(clean if isinstance(clean, str) else _json(clean), encoding="utf-8")
            if trace is not None:
                with suppress(InputError):  # a candidate that was refused may have damaged its recording
                    scrub_sqlite(trace, building / "trace.sqlite", keep_names=False, policy=Policy.of_this_machine())
            commit, tree = sources_of(Path(__file__).resolve().parents[1], root=True)
            provenance = {
                "schema": SCHEMA,
                "created_utc": now_utc(),
                "aisp-trace": version(),
                "commit": commit,
                "tree": tree,
                "task": task,
                "source_sha256": digest_of(content),
                **clean_document(dict(facts)),
                "files": {one.name: digest_of(one.read_bytes()) for one in sorted(building.iterdir())},
            }
            (building / PROVENANCE).write_text(_json(provenance), encoding="utf-8")
            _settle(building, top / name)
    except OSError as exc:
        raise InputError(f"artefacts cannot be kept in {top}: {reason(exc)}; name a folder with --artifacts") from exc
    return top / name


def keep_source(root: Path, top: Path, content: bytes, suffix: str) -> None:
    """Write a source and its parameters to `top`, its folder below `root`; the folder of all kernels hides itself from git.

    Raises `OSError`.
    """
    if not (root / "kernels").is_dir():
        (root / "kernels").mkdir(parents=True)
        (root / "kernels" / ".gitignore").write_text("*\n", encoding="utf-8")
    top.mkdir(parents=True, exist_ok=True)
    (top / f"source{suffix}").write_bytes(content)
    if parameters := parameters_of(content):
        (top / "parameters.json").write_text(_json(parameters), encoding="utf-8")


def _settle(building: Path, place: Path) -> None:
    """Put the files into `place`, in which nothing else of ours stays; the provenance last, without which nothing is believed."""
    place.mkdir(exist_ok=True)
    for name in (PROVENANCE, *_FILES):
        if name == PROVENANCE or not (building / name).exists():
            (place / name).unlink(missing_ok=True)
    for name in (*_FILES, PROVENANCE):
        if (building / name).exists():
            (building / name).replace(place / name)


def parameters_of(content: bytes) -> dict[str, int | str]:
    """The parameters in the head of an emitted source; empty for any other file."""
    head, found, _ = content[:4000].decode(errors="replace").partition("\n// Compile:")
    words = _PARAMETER.findall(head.partition("// Parameters:\n")[2]) if found else []
    return {name: int(value) if value.isdecimal() else value for name, value in words}


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


# -- reading -----------------------------------------------------------------------------------------------------------


def stamps(root: Path, task: str) -> list[Stamp]:
    """Every verification of a CUDA source of `task` that is kept below `root`, the newest first; those with a `problem` too."""
    kept = sorted((root / "kernels" / task).glob(f"*/*/{VERIFICATION}"))
    found = [_stamp(file.parent, task) for file in kept if (file.parents[1] / "source.cu").is_file()]
    return sorted(found, key=lambda one: one.created_utc, reverse=True)


def _stamp(folder: Path, task: str) -> Stamp:
    try:
        return _read(folder, task)
    except InputError as exc:
        return Stamp(folder, task, "", "", "", "", folder.parent.name, (), "", str(exc))


def _read(folder: Path, task: str) -> Stamp:
    file = folder / VERIFICATION
    provenance, document = read(folder / PROVENANCE, KERNEL), read(file, KERNEL)
    digests = provenance.get("files") if isinstance(provenance, dict) else None
    if not isinstance(document, dict) or not isinstance(digests, dict) or provenance.get("schema") != SCHEMA:
        raise InputError(f"{folder} holds no verification of this version")
    if digests.get(VERIFICATION) != digest_of(read_bytes(file, KERNEL)):
        raise InputError(f"{file} is not what was written when the kernel was verified")
    made, candidate = document.get("made_with"), document.get("candidate")
    if not isinstance(made, dict) or not isinstance(candidate, dict) or document.get("task") != task:
        raise InputError(f"{file} is not a verification of {task}")
    texts = document.get("shapes")
    return Stamp(
        folder=folder,
        task=task,
        dtype=str(document.get("dtype")),
        arch=str(made.get("arch")),
        compiler=str(made.get("nvcc")),
        status=str(document.get("status")),
        source_sha256=str(candidate.get("sha256")),
        shapes=[_shape(str(text)) for text in texts] if isinstance(texts, list) else [],
        created_utc=str(made.get("created_utc")),
    )


def _shape(text: str) -> dict[str, int]:
    return {name: int(size) for name, size in _SIZE.findall(text)}


# -- bundles -----------------------------------------------------------------------------------------------------------


def copy_used(root: Path, used: Iterable[tuple[str, str]], target: Path) -> list[str]:
    """Copy the artefacts of the kernels in `used` (task, digest) to `target`; returns a sentence for what is left out.

    At most `MOST_BUNDLED` in all: recordings come last, smaller files first.
    """
    missing, left, files = [], [], []
    for task, sha256 in used:
        found = list(_kept(folder_of(root, task, sha256)))
        if not found:
            missing.append(f"the artefacts of {task} {sha256[:DIGITS]} are not in {root}, so the bundle lacks them")
        files += found
    room = MOST_BUNDLED
    for file in sorted(files, key=lambda one: (one.name == "trace.sqlite", one.stat().st_size)):
        inside = file.relative_to(root / "kernels")
        if file.stat().st_size > room:
            left.append(f"{inside} was left out of the bundle, which takes {MOST_BUNDLED >> 20} MiB of artefacts")
            continue
        room -= file.stat().st_size
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / inside)
    return [*missing, *left]


def _kept(folder: Path) -> Iterator[Path]:
    """The files that `_store` writes; nothing else that may lie there."""
    names = ("source.cu", "source.py", "parameters.json", "*/*.json", "*/compiler.log", "*/trace.sqlite")
    with suppress(OSError):
        for name in names:
            yield from (
                file for file in folder.glob(name) if file.is_file() and not file.parent.name.startswith(_PRIVATE)
            )
