"""What a test needs that an installation may lack, and the reason it gives where it is skipped."""

from __future__ import annotations

import importlib

import pytest

from aisp_trace.traces import engine


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


needs_numba = pytest.mark.skipif(not _imports("numba"), reason="numba is not installed: nothing is compiled")


def force(monkeypatch: pytest.MonkeyPatch, *, compiled: bool) -> None:
    """From now on all primitives run compiled, or none does."""
    monkeypatch.setattr(engine, "_turned", False)
    monkeypatch.setattr(engine, "COMPILED_FROM", 0 if compiled else 1 << 62)
