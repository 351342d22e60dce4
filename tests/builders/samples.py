"""The recordings in ``traces/samples``, unpacked."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLES: Final = ROOT / "traces" / "samples"


def unpack(name: str, folder: Path) -> Path:
    """The SQLite export `name` (without extensions) unpacked into `folder`."""
    target = folder / f"{name}.sqlite"
    if not target.exists():
        target.write_bytes(lzma.decompress((SAMPLES / f"{name}.sqlite.xz").read_bytes()))
    return target
