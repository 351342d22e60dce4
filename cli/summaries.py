"""Where the verdicts of a check are written for continuous integration: JUnit XML, Markdown, GitHub's step summary."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ..traces.errors import InputError
from .console import warn
from .evidence import Judged
from .junit import junit
from .markdown import markdown

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""Set by GitHub Actions to a file whose Markdown it shows on the page of the job."""


def write_summaries(judged: Judged, junit_file: Path | None, markdown_file: Path | None) -> None:
    """Write what was asked for, each file whole or not at all, and append to the step summary where there is one.

    Raises `InputError` for a file that was asked for and cannot be written. The step summary was not asked for: where it
    cannot be written a line on stderr says so, and the verdict stands.
    """
    if junit_file is not None:
        _write(junit_file, junit(judged), "--junit")
    if markdown_file is not None:
        _write(markdown_file, markdown(judged), "--markdown")
    summary = os.environ.get(STEP_SUMMARY)
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(f"\n{markdown(judged)}")
        except OSError as exc:
            warn(f"the verdicts could not be appended to ${STEP_SUMMARY} ({exc.strerror or exc})")


def _write(path: Path, text: str, option: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{option} {path} cannot be written: {exc.strerror or exc}; name another file") from exc
