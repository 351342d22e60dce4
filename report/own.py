"""What aisp-trace wrote itself, by its content: who names everything in a folder means the traces in it.

An exported or scrubbed copy of a trace is a trace, and a run folder holds traces, so neither is meant here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..analyze.ranks import partials
from ..analyze.ranks.gather import OURS
from ..traces.bundle import BUNDLE
from ..traces.output import Kind
from ..traces.run import MANIFEST, RUNS_DIR
from ..traces.store import CACHE_SUFFIX
from ..traces.unread import is_page
from .ci.junit import JUNIT
from .ci.markdown import MARKDOWN
from .export.perfetto import PERFETTO
from .export.tables import TABLES_FOLDER

_FILES: Final = (
    Kind("page", is_page),
    BUNDLE,
    JUNIT,
    MARKDOWN,
    PERFETTO,
    Kind("document", lambda head: OURS in head[:80]),
)

NAMED: Final = 3
"""Outputs that a sentence names."""


def without_own(given: Sequence[Path], *, partials_too: bool = True) -> tuple[list[Path], str]:
    """Those of several paths that are no output of aisp-trace, and what to say of the others.

    All of `given` where none would be left, or one is given: then that one is meant. `partials_too` false keeps partials.
    """
    kept = [path for path in given if not is_own(path) or (_is_partial(path) and not partials_too)]
    if len(given) < 2 or len(kept) in (0, len(given)):
        return list(given), ""
    own = [path for path in given if path not in kept]
    named = ", ".join(map(str, own[:NAMED])) + (f" and {len(own) - NAMED:,} more" if len(own) > NAMED else "")
    return kept, f"passed over what aisp-trace wrote: {named}"


def is_own(path: Path) -> bool:
    """Whether `path` is an output of aisp-trace that is no trace."""
    if _is_partial(path):
        return True
    if path.is_dir():
        return path.name.endswith(CACHE_SUFFIX) or _holds_runs(path) or _is_export(path)
    return any(kind.knows(path) for kind in _FILES)


def _is_partial(path: Path) -> bool:
    """Whether it is a partial, or a folder of nothing else."""
    if not path.is_dir():
        return path.name.endswith(partials.SUFFIX)
    names = [file.name for file in path.iterdir() if not file.name.startswith(".")]
    return bool(names) and all(name.endswith(partials.SUFFIX) for name in names)


def _holds_runs(folder: Path) -> bool:
    return folder.resolve().name == RUNS_DIR and not (folder / MANIFEST).exists()


def _is_export(folder: Path) -> bool:
    return TABLES_FOLDER.parts is not None and TABLES_FOLDER.parts(folder) is not None
