"""The expectations of a git commit: what was written down on a day that version control knows."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from ...traces.errors import InputError
from .load import PATTERN, PROJECT_DIR

_TIMEOUT_S: Final = 60
"""A repository on a slow network file system answers within seconds."""


@contextmanager
def committed_folder(commit: str, project: Path) -> Iterator[Path]:
    """A temporary folder with the files of ``expectations/`` in `project` as `commit` has them.

    Raises `InputError` where git or the repository is missing, the commit is unknown, or it has no expectations.
    """
    asked = f"--commit {commit} cannot say which expectations to compare with"
    revision = _git(project, asked, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    sha = revision.decode("ascii", "replace").strip()
    listed = _git(project, asked, "ls-tree", "-z", "--name-only", sha, f"{PROJECT_DIR}/").split(b"\0")
    names = [Path(name.decode("utf-8", "replace")).name for name in listed if name]
    chosen = [name for name in names if fnmatch(name, PATTERN)]
    if not chosen:
        raise InputError(f"{asked}: it has no {PROJECT_DIR}/{PATTERN}; run this in the folder above {PROJECT_DIR}/")
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        folder = Path(name)
        for file in chosen:
            (folder / file).write_bytes(_git(project, asked, "show", f"{sha}:./{PROJECT_DIR}/{file}"))
        yield folder


def _git(project: Path, asked: str, *words: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", *words], cwd=project, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InputError(f"{asked}: git cannot be run ({exc}); give --expectations DIR instead") from exc
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:200] or "no such commit"
        raise InputError(f"{asked}: git answers: {said}; name a commit of the repository in {project}")
    return done.stdout
