"""A case as one small file: its command lines, its input, and what was found. The tests repeat every file of ``found/``."""

from __future__ import annotations

import base64
import json
import lzma
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from .case import Case, Look, made

FOLDER: Final = Path(__file__).with_name("found")


def keep(case: Case, box: Path, found: list[str], file: Path) -> Path:
    """Write the `case` that lies in `box` to `file`, with what was `found`; returns `file`."""
    document = {
        "found": [one[:600] for one in found[:5]],
        "case": asdict(case),
        "files": {
            str(p.relative_to(box)): _packed(p)
            for p in sorted(box.rglob("*"))
            if p.relative_to(box).parts[0] in ("in", "home")
        },
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return file


def restored(file: Path, box: Path) -> Case:
    """The case in `file`, its input in the empty folder `box`."""
    document = json.loads(file.read_text(encoding="utf-8"))
    made(box)
    for name, entry in document["files"].items():
        _unpack(box / name, entry)
    case: dict[str, Any] = document["case"]
    looks = [Look(**look | {"words": tuple(look["words"])}) for look in case["looks"]]
    return Case(case["kind"], looks, case["truth"], tuple(case["secrets"]))


def _packed(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        return {"link": str(path.readlink())}
    mode = path.stat().st_mode & 0o777
    if path.is_dir():
        return {"folder": mode}
    data = path.read_bytes()
    try:
        text = data.decode("utf-8") if len(data) < 20_000 else None
    except UnicodeDecodeError:
        text = None
    if text is not None and "\r" not in text:
        return {"mode": mode, "text": text}
    return {"mode": mode, "xz": base64.b85encode(lzma.compress(data, preset=9)).decode()}


def _unpack(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "link" in entry:
        path.symlink_to(entry["link"])
    elif "folder" in entry:
        path.mkdir(exist_ok=True)
    else:
        data = entry["text"].encode() if "text" in entry else lzma.decompress(base64.b85decode(entry["xz"]))
        path.write_bytes(data)
        path.chmod(entry["mode"])
