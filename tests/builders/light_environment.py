"""A virtual environment that has a few packages of this one and nothing else, such as a GPU host that only records."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aisp_trace.tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]

RECORDING: Final = ("torch", "nvtx")
"""What a host needs to record, beside typer."""


def make_environment(
    folder: Path, *requirements: str, linked: tuple[str, ...] = RECORDING, base: str = sys.executable
) -> Path:
    """A virtual environment in `folder` with `requirements` from the package index, and `linked` of this environment
    with what they need; returns its Python, of the version of `base`.

    Packages of this environment are linked, so that torch takes neither time nor disk. The checkout is on the path, so
    that ``aisp_trace`` is this one. Raises `CalledProcessError` if pip cannot install `requirements`, and
    `PackageNotFoundError` if one of `linked` is not installed here.
    """
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True, text=True)
    python = folder / "bin" / "python"
    if requirements:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
        subprocess.run([*pip, "install", "--quiet", *requirements], check=True, capture_output=True, text=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in _with_needs(linked):
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(found.locate_file(top)))
    checkout = folder / "checkout"
    checkout.mkdir()
    (checkout / "aisp_trace").symlink_to(ROOT)
    (site / "checkout.pth").write_text(f"{checkout}\n", encoding="utf-8")
    return python


def _with_needs(names: tuple[str, ...]) -> set[str]:
    """`names` and the installed packages that they need, directly or not; without extras."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(text) for text in metadata.requires(name) or ()]
        waiting += [
            canonicalize_name(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})
        ]
    return found


def absent(python: Path, names: tuple[str, ...]) -> list[str]:
    """Which of the packages `names` that Python lacks."""
    program = f"import importlib.util, json; print(json.dumps([n for n in {names} if not importlib.util.find_spec(n)]))"
    found: list[str] = json.loads(started(python, "-c", program).stdout)
    return found


def started(
    python: Path, *words: str, given: str | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python` with `words`, in `folder`, with `given` on its standard input."""
    return subprocess.run(
        [str(python), "-P", *words], input=given, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )


def aisp_trace(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The whole program under `python`, in `folder`."""
    return started(python, "-m", "aisp_trace.cli", *words, folder=folder)
