"""The recordings in ``traces/samples``, unpacked."""

from __future__ import annotations

import atexit
import json
import lzma
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLES: Final = ROOT / "traces" / "samples"


@cache
def expectations_about(*variants: str) -> Path:
    """A folder with the project's expectations, but claims about `variants` alone: a recording has no variant that came later."""
    folder = Path(tempfile.mkdtemp(prefix="expectations-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in (ROOT / "expectations").glob("expectations_*.json"):
        document = json.loads(file.read_text(encoding="utf-8"))
        document["claims"] = [claim for claim in document["claims"] if claim["variant"] in variants]
        (folder / file.name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def unpack(name: str, folder: Path) -> Path:
    """The SQLite export `name` (without extensions) unpacked into `folder`."""
    target = folder / f"{name}.sqlite"
    if not target.exists():
        target.write_bytes(lzma.decompress((SAMPLES / f"{name}.sqlite.xz").read_bytes()))
    return target
