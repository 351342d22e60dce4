"""Where kept answers lie: one compressed file a sample, and one file for all recordings outside the repository.

A recording outside is known by its name and its content, however compressed: another recording of the same name has other
answers, and none is compared with it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .answers import ROOT
from .calls import Words, is_run

SAMPLES: Final = ROOT / "traces" / "samples"
KEPT: Final = Path(__file__).parent / "samples"
ELSEWHERE: Final = Path(__file__).parent / "elsewhere.json.xz"

ENDINGS: Final = (".sqlite", ".sqlite.xz", ".sqlite.gz", ".json", ".json.xz", ".json.gz")

_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]

Answers = dict[Words, Any]
"""The answer to each call on one recording."""


def samples() -> list[Path]:
    """Every recording in ``traces/samples``: traces, and run folders."""
    return sorted(p for p in SAMPLES.iterdir() if is_run(p) or p.name.endswith((".xz", ".gz")))


def kept_file(sample: Path) -> Path:
    """Where the answers on `sample` lie."""
    return KEPT / f"{sample.name.removesuffix('.xz').removesuffix('.gz').removesuffix('.json')}.json.xz"


def recordings(folder: Path) -> Iterator[Path]:
    """Every run folder and trace below `folder`, in order; of a run folder not the traces inside."""
    runs = [file.parent for file in sorted(folder.rglob("manifest.json"))]
    yield from runs
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name.endswith(ENDINGS) and not any(run in file.parents for run in runs):
            yield file


def content(path: Path) -> str:
    """What `path` holds, as a short digest: of a run folder all files, of a trace what is in it when unpacked.

    What SQLite writes into a header about itself (change counter, version) is left out, so that a database made anew by
    the same program with another SQLite is the same content.
    """
    digest = hashlib.sha256()
    for file in sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]:
        data = _plain(file)
        if data[:16] == b"SQLite format 3\0":
            data = data[:24] + bytes(4) + data[28:92] + bytes(8) + data[100:]
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:16]


def read(file: Path) -> dict[str, Any]:
    """The JSON object in a kept file; empty if there is no such file."""
    if not file.exists():
        return {}
    value: dict[str, Any] = json.loads(lzma.decompress(file.read_bytes()))
    return value


def write(file: Path, value: Mapping[str, Any]) -> bool:
    """Keep `value` in `file`; whether that changed it. An unchanged file is not touched, whatever compresses today."""
    if read(file) == value and file.exists():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
    file.write_bytes(lzma.compress(text.encode(), check=lzma.CHECK_CRC64, filters=_FILTERS))
    return True


def answers_in(value: Mapping[str, Any]) -> Answers:
    """Answers as `as_json` wrote them."""
    return {tuple(json.loads(line)): found for line, found in value.items()}


def as_json(answers: Answers) -> dict[str, Any]:
    """`answers` as a JSON object: a call's key is its words as JSON, since a word may hold a space."""
    return {json.dumps(list(words)): found for words, found in answers.items()}


def _plain(file: Path) -> bytes:
    data = file.read_bytes()
    try:
        if file.suffix == ".xz":
            return lzma.decompress(data)
        return gzip.decompress(data) if file.suffix == ".gz" else data
    except (OSError, EOFError, lzma.LZMAError):
        return data  # damaged on purpose: then it is known by its bytes
