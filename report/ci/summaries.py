"""Where the verdicts of a check are written for continuous integration: JUnit XML, Markdown, GitHub's step summary."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...expectations.judging.judged import Judged
from ...traces.errors import AispTraceError
from ...traces.output import Inputs, Output, check_all
from ..terminal.console import warn
from .junit import JUNIT, junit
from .markdown import MARKDOWN, markdown

STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""Set by GitHub Actions to a file whose Markdown it shows on the page of the job."""


@dataclass(frozen=True, slots=True)
class Summaries:
    """Where the verdicts go besides the terminal: the files that were asked for, and what the command reads."""

    junit: Output | None
    markdown: Output | None
    inputs: Inputs

    @property
    def asked(self) -> tuple[Output, ...]:
        """The files that were asked for."""
        return tuple(output for output in (self.junit, self.markdown) if output is not None)

    def write(self, judged: Judged) -> None:
        """Write what was asked for, each file whole or not at all, and append to the step summary where there is one.

        Raises as `Output.file` does. The step summary was not asked for: where it cannot be written a line on stderr
        says so, and the verdict stands.
        """
        if self.junit is not None:
            self.junit.write_text(junit(judged))
        if self.markdown is not None:
            self.markdown.write_text(markdown(judged))
        if summary := os.environ.get(STEP_SUMMARY):
            written = [output.path for output in self.asked if not output.is_stream]
            kept = Inputs((*self.inputs.files, *written), self.inputs.runs)
            try:
                Output(Path(summary), MARKDOWN, kept, option=f"${STEP_SUMMARY}").append_text(f"\n{markdown(judged)}")
            except AispTraceError as exc:
                warn(f"the verdicts could not be appended to ${STEP_SUMMARY}: {exc}")


def summaries(junit_file: Path | None, markdown_file: Path | None, inputs: Inputs, *, force: bool) -> Summaries:
    """The files to write, checked before anything is judged; raises as `check_all` does."""
    made = Summaries(
        None if junit_file is None else Output(junit_file, JUNIT, inputs, force, "--junit"),
        None if markdown_file is None else Output(markdown_file, MARKDOWN, inputs, force, "--markdown"),
        inputs,
    )
    check_all(made.asked)
    return made
