"""A hook of mkdocs: links out of docs/ become the path they lead to, since a site has no source files beside it."""

from __future__ import annotations

import re
from typing import Any, Final

OUTSIDE: Final = re.compile(r"(?<!!)\[([^\]\n]+)\]\(\.\./([^)\s]+)\)")
"""``[words](../path)``; the pages lie in one folder, so two dots lead out of it."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with the text of each page."""
    return OUTSIDE.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    words, path = link.groups()
    return f"`{path}`" if words.strip("`") in path else f"{words} (`{path}`)"
