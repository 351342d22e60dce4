"""Harness: SystemExit with code 0, which passes by `except Exception`."""

from __future__ import annotations

from typing import Any

Tensors = dict[str, Any]


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Leave politely."""
    raise SystemExit(0)
