"""What a test needs that an installation may lack, and the reason it gives where it is skipped."""

from __future__ import annotations

import importlib

import pytest


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


needs_numba = pytest.mark.skipif(not _imports("numba"), reason="numba is not installed: nothing is compiled")
