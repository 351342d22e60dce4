"""How a result shows itself in a notebook.

Faces lie above results (``tests/test_architecture.py``), so a result knows none: the package names the one that draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Face = Callable[[Any], str]
"""From a result to its HTML."""

_faces: list[Face] = []


def show_with(face: Face) -> None:
    """Draw every `Shown` with `face` from now on."""
    _faces[:] = [face]


class Shown:
    """A result that a notebook shows as HTML when it is the last line of a cell."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        """IPython's protocol; null: it shows the `repr`."""
        return _faces[0](self) if _faces else None
