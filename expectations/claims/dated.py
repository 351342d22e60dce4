"""Whether bounds were written down before the run that they judge, as far as git knows: the file itself cannot show it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...traces.run import Manifest
from ..model import ANY, Claim, Expectations
from .load import PACKAGE_DIR, file_name

_TIMEOUT_S: Final = 10
"""A question of milliseconds; a note is not worth more on a slow file system."""


def younger_bounds(expectations: Expectations, run: Manifest) -> Iterator[str]:
    """A sentence for each file with claims on `run` that is not committed, or was last committed after the run began.

    Nothing of files outside of a git work tree, and of those that come with this package, which have the dates of its releases.
    A bound that was measured before the run began is older, whenever its file was committed.
    """
    if expectations.folder.resolve() == PACKAGE_DIR:
        return
    begun = _begun(run)
    if begun is None:
        return
    for file in expectations.files:
        young = [c for c in file.claims if c.workload == run.workload and not _measured_before(c, begun)]
        if file.hardware_key in (run.hardware.key, ANY) and young:
            path = expectations.folder / file_name(file.hardware_key)
            changed, last = _git(path, "status", "--porcelain", "--", path.name), _last_commit(path)
            if changed is None:
                continue
            if last is None:
                yield f"nothing shows that these bounds were written before the run: {path} is in no commit"
            elif changed:
                yield f"nothing shows that these bounds were written before the run: {path} differs from its last commit"
            elif last > begun:
                yield (
                    f"nothing shows that these bounds were written before the run: {path} was last committed at {_utc(last)}, "
                    f"and the run began at {_utc(begun)}; capture again, and `check` that run"
                )


def _measured_before(claim: Claim, begun: datetime) -> bool:
    made = claim.provenance.recorded_utc if claim.provenance is not None else None
    return made is not None and made < _utc(begun)


def _begun(run: Manifest) -> datetime | None:
    """When the first process of `run` was started; where none was timed, when its manifest was written. Null for no date."""
    starts = [*(made.started_utc for made in run.rounds), *(made.started_utc for made in run.commands)]
    try:
        return datetime.strptime(min(starts, default=run.created_utc), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _last_commit(path: Path) -> datetime | None:
    seconds = _git(path, "log", "-1", "--format=%ct", "--", path.name)
    return datetime.fromtimestamp(int(seconds), UTC) if seconds and seconds.strip().isdigit() else None


def _utc(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _git(path: Path, *words: str) -> str | None:
    """What git answers in the folder of `path`; null where it fails, or the folder is in no work tree."""
    command = ["git", "--no-optional-locks", *words]
    try:
        done = subprocess.run(
            command, cwd=path.parent, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
