"""Harness: a call never ends."""

from __future__ import annotations

import threading
from typing import Any

Tensors = dict[str, Any]


def run(inputs: Tensors, outputs: Tensors) -> None:
    """Wait for ever."""
    threading.Event().wait()
