"""A scrubbed copy of what a command was given, from which a page or an export is made as from the original.

What is made from the copy can hold nothing that the copy does not: no face has to know what is personal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..analyze.sources import Asked, Source
from ..traces.content import file_name
from ..traces.scrub.personal import Policy
from ..traces.scrub.run import scrub_run, scrub_trace


@contextmanager
def scrubbed(source: Source, policy: Policy) -> Iterator[Source]:
    """A copy of `source` in a temporary folder, which is gone afterwards; `policy` then knows what was replaced.

    Raises `InputError` for a trace that cannot be scrubbed.
    """
    with tempfile.TemporaryDirectory(prefix="aisp-trace-") as name:
        folder = Path(name)
        if source.run is not None:
            run = scrub_run(source.run, folder / file_name(source.run.manifest.run_id), policy=policy)
            yield Source(run, run.path)
        else:
            stem = file_name(policy.text(source.path.name.partition(".")[0])) or "trace"
            yield Source(None, scrub_trace(source.path, folder, policy, stem, keep_names=True))


def as_in_copy(asked: Asked, policy: Policy) -> Asked:
    """`asked` of a copy by `policy`, whose names it replaced: who names a range knows it as the original has it."""

    def named(text: str | None) -> str | None:
        return None if text is None else policy.text(text)

    return replace(asked, window=named(asked.window), domain=named(asked.domain), below=named(asked.below))
