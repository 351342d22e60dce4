"""The pages for people as Markdown: which there are, what they link to, and which of it leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "traces" / "samples" / "README.md",
    ]
)


def named(page: Path) -> str:
    """The page as its path from the root."""
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    """A page without its fenced and indented blocks and without code in a line, where brackets are not links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ {4,}(?![-*|]).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "x", text)


def links(text: str) -> list[str]:
    """What the page links to, pictures included."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as both GitHub and mkdocs make them of words without odd characters."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The links of `text`, which is to stand in `page`, that lead nowhere."""
    found = []
    for link in links(text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        inside = text if target == page else target.read_text(encoding="utf-8") if there and anchor else ""
        if not there or (anchor and anchor not in anchors(inside)):
            found.append(link)
    return found
