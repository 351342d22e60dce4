"""Expectation files as people ask for them: those that apply here, whether files are right, what differs. Judges nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...traces.content import one_line
from ...traces.documents import EXPECTATIONS, read_text
from ...traces.errors import InputError
from ...traces.faults import nearest
from ..model import ANY, Claim, ExpectationFile, Expectations
from .diff import Difference, differences
from .load import FILE_PREFIX, PATTERN, PROJECT_DIR, choose_folder, load_expectations, load_file, load_folder
from .parse import parse
from .skeleton import unfinished
from .wanted import FILE as WANTED
from .wanted import load_wanted


@dataclass(frozen=True, slots=True)
class Validation:
    """One file: how many claims it holds, or a sentence for each thing that is wrong."""

    path: Path
    claims: int
    faults: tuple[str, ...] = ()


Claims = tuple[Claim, ...]

Differing = tuple[tuple[str, tuple[Difference, ...]], ...]
"""For each hardware key, in order, what differs."""


def chosen_claims(asked: Path | None, workload: str | None, hardware: str | None) -> Expectations:
    """The claims that apply in the current folder, narrowed; raises `InputError` where nothing is left."""
    found = load_expectations(asked, Path.cwd())
    keys = [f.hardware_key for f in found.files]
    if hardware is not None and hardware not in keys:
        hint = nearest(hardware, keys) or f"; it has {', '.join(keys)}"
        raise InputError(f"{found.folder} has no expectations for {hardware!r}{hint}")
    names = sorted({c.workload for f in found.files for c in f.claims})
    if workload is not None and workload not in names:
        hint = nearest(workload, names) or f"; it has {', '.join(names) or 'none'}"
        raise InputError(f"{found.folder} has no claim on {workload!r}{hint}")
    files = tuple(
        ExpectationFile(f.hardware_key, tuple(c for c in f.claims if workload in (None, c.workload)))
        for f in found.files
        if hardware is None or f.hardware_key in (hardware, ANY)
    )
    return Expectations(found.folder, found.chosen, files)


def validations(paths: Sequence[Path] | None) -> list[Validation]:
    """Every file named, or in a folder named; without names those that apply here. Raises `InputError` for no file."""
    found: list[Validation] = []
    for path in paths or [choose_folder(None, Path.cwd())[0]]:
        files = sorted([*path.glob(PATTERN), *path.glob(WANTED)]) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path} holds no file {PATTERN}; name a folder that does")
        alone = [_validated(file) for file in files]
        if path.is_dir() and not any(v.faults for v in alone):
            found += _together(path, alone)
        else:
            found += alone
    return found


def differing(old: Path | None, new: Path | None) -> Differing:
    """What changes from `old` to `new`; with `new` null, from the committed state to `old`, by default the project's folder.

    Either may be a commit of git's, where no such file exists: of the other, or of the project's folder.
    """
    commits = tuple(None if path is None else _commit(path) for path in (old, new))
    if old is None or None not in commits or (new is None and commits[0] is not None):
        of = _project()
    else:  # a commit's own are those beside the other
        of = new if commits[0] is not None and new is not None else old
    if new is None:
        before, after = _committed(of, commits[0] or "HEAD"), _files(of)
    else:
        assert old is not None
        before, after = (
            _files(path) if commit is None else _committed(of, commit)
            for path, commit in zip((old, new), commits, strict=True)
        )
    if old is not None and new is not None and old.is_file() and new.is_file() and len({*before, *after}) > 1:
        # Two files are compared though they are of two machines: that is what was asked.
        (one,), ((key, two),) = before.values(), after.items()
        return ((key, differences(one, two)),)
    return _differences(before, after)


def _differences(before: Mapping[str, Claims], after: Mapping[str, Claims]) -> Differing:
    keys = dict.fromkeys((*before, *after))
    return tuple((key, differences(before.get(key, ()), after.get(key, ()))) for key in keys)


def _project() -> Path:
    """The project's folder; raises `InputError` if it holds no expectations."""
    folder = Path(PROJECT_DIR)
    if not any(folder.glob(PATTERN)):
        raise InputError(
            f"there is no ./{PROJECT_DIR}/{PATTERN} to compare with git's last commit; name a file or folder, or two, or "
            f"run this in the folder above {PROJECT_DIR}/"
        )
    return folder


def _commit(name: Path) -> str | None:
    """The commit that git knows as `name`, where no such file exists; null if there is none."""
    if name.exists():
        return None
    try:
        return _git(Path(), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
    except InputError:
        return None


def _validated(file: Path) -> Validation:
    """`file` by itself: what cannot be read, else the claims that `expectations new` wrote and nobody filled in."""
    try:
        if file.name == WANTED:
            return Validation(file, len(load_wanted(file.parent)))
        # A file by itself may have any name; in a folder its name says which machine it is for.
        named = file.name.startswith(FILE_PREFIX)
        claims = load_file(file).claims if named else parse(read_text(file, EXPECTATIONS), str(file)).claims
        return Validation(file, len(claims), tuple(f"{file}: {text}" for text in _unfinished(claims)))
    except InputError as exc:
        return Validation(file, 0, exc.args)


def _unfinished(claims: Iterable[Claim]) -> Iterator[str]:
    for claim in claims:
        if left := unfinished(claim):
            yield f"claim {claim.id!r}: {left}; write what it asks for"


def _together(folder: Path, alone: list[Validation]) -> list[Validation]:
    try:
        load_folder(folder, "option")
    except InputError as exc:
        return [*alone, Validation(folder, 0, exc.args)]
    return alone


def _files(path: Path) -> dict[str, Claims]:
    _require(path)
    if path.is_dir():
        found = {f.hardware_key: f.claims for f in load_folder(path, "option").files}
        if not found:
            raise InputError(f"{path} holds no file {PATTERN}; name a folder that does")
        return found
    file = parse(read_text(path, EXPECTATIONS), str(path))
    return {file.hardware_key: file.claims}


def _require(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; name an expectation file, a folder of them, or a commit of git's")


def _committed(path: Path, commit: str = "HEAD") -> dict[str, Claims]:
    """The same files as git's `commit` has them; files that it does not have are absent."""
    _require(path)
    out = {}
    folder = path if path.is_dir() else path.parent
    names = _git(folder, "ls-tree", "--name-only", commit, "./").splitlines()
    pattern = PATTERN if path.is_dir() else path.name
    for name in sorted(n for n in names if Path(n).match(pattern)):
        file = parse(_git(folder, "show", f"{commit}:./{name}"), f"{name} as committed")
        out[file.hardware_key] = file.claims
    if not out and path.is_file() and commit == "HEAD":
        raise InputError(f"{path} is not committed, so there is nothing to compare it with; name a second file")
    return out


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, encoding="utf-8", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InputError(f"git cannot say what is committed in {folder}: {exc}; name a second file or folder") from exc
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise InputError(
            f"git cannot say what is committed in {folder} ({one_line(why)}); name a second file or folder"
        )
    return done.stdout
