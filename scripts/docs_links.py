"""A hook of mkdocs: links out of docs/ become the path they lead to, since a site has no source files beside it."""

from __future__ import annotations

import re
from typing import Any

LINK = r"(?<!!)\[([^\]\n]+)\]\({up}([^)\s]+)\)"
"""``[words](../path)``, with as many dots as lead out of docs/ from the page's folder."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """mkdocs calls this with the text of each page."""
    up = re.escape("../" * (1 + page.file.src_uri.count("/")))
    return re.sub(LINK.format(up=up), _named, markdown)


def _named(link: re.Match[str]) -> str:
    words, path = link.groups()
    return f"`{path}`" if words.strip("`") in path else f"{words} (`{path}`)"
