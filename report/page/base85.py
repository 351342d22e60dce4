"""Bytes as text within a page: base 85, which takes 6 % less room than base 64. ``base85.js`` decodes it in the browser."""

from __future__ import annotations

import base64
from pathlib import Path


def base85(content: bytes) -> str:
    """`content` as text that holds nothing that HTML would read: a dot stands for the ``<`` of Python's alphabet."""
    return base64.b85encode(content).decode("ascii").replace("<", ".")


def decoder() -> str:
    """The script that defines ``bytesOf(text)``."""
    return Path(__file__).with_name("base85.js").read_text(encoding="utf-8")
