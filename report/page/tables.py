"""HTML tables: the exact numbers behind every figure. A wide table scrolls in its own box, never the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .markup import Child, Html, element

Cell = Child
"""Text (escaped), markup, or null for an empty cell."""

MOST_ROWS: Final = 400
"""Rows of a table on the page; `aisp-trace analyze --json` holds all of them."""


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    numbers: Sequence[int] = (),
    under: Sequence[Cell] = (),
) -> Html:
    """A table; the columns `numbers` are right-aligned. `caption` names it for readers that do not see the heading.

    `under` holds, where given, a line for each row that is written below it over the whole width.
    """
    aligned = set(numbers)
    head = [element("th", h, scope="col", class_="num" if i in aligned else None) for i, h in enumerate(heads)]
    body = []
    for at, row in enumerate(rows[:MOST_ROWS]):
        cells = [element("td", c, class_="num" if i in aligned else None) for i, c in enumerate(row)]
        body.append(element("tr", cells, class_="over" if under else None))
        if under:
            body.append(element("tr", element("td", under[at], colspan=len(heads)), class_="under"))
    if len(rows) > MOST_ROWS:
        more = f"{len(rows) - MOST_ROWS:,} more rows: see `aisp-trace analyze --json`"
        body.append(element("tr", element("td", more, colspan=len(heads))))
    content = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", head)),
        element("tbody", body),
    )
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def folded(summary: str, *content: Child) -> Html:
    """Content that opens on demand (and always when printed)."""
    return element("details", element("summary", summary), *content)


def definitions(pairs: Sequence[tuple[str, Child]]) -> Html:
    """A list of facts; those whose value is null are left out."""
    rows = [element("div", element("dt", k), element("dd", v)) for k, v in pairs if v is not None and v != ""]
    return element("dl", rows, class_="facts")


def section(anchor: str, title: str, *content: Child | Sequence[Child]) -> Html:
    """A titled part of the page."""
    return element("section", element("h2", title, id=f"{anchor}-title"), *content, id=anchor)
