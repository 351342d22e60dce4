"""How a page is written and told of."""

from __future__ import annotations

import webbrowser

from ..analyze.words import size
from ..report.terminal.console import aside, say
from ..traces.output import Output


def write_page(target: Output, page: str, *, open_it: bool = False, quiet: bool = False) -> None:
    """Write `page` to `target` and say so, also that an earlier file gave way, unless `quiet`; `open_it` shows it in the browser.

    Raises as `Output.write_text`.
    """
    replaced = " (replaced)" if target.replaces else ""
    target.write_text(page)
    if not quiet:
        with aside(target):
            say(f"report: {target.path} ({size(len(page.encode()))}){replaced}")
    if open_it and not target.is_stream:
        webbrowser.open(target.path.absolute().as_uri())
