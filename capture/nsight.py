"""Finding Nsight Systems: the nsys program, its version and options, and the importer that makes reports.

`nsys profile` writes a ``.qdstrm`` stream; a second program, QdstrmImporter, turns it into a ``.nsys-rep``. Where the
importer lies differs between packages, and nsys only finds the first of these by itself:

    NVIDIA's packages   <base>/target-linux-x64/nsys     <base>/host-linux-x64/QdstrmImporter
    Debian, Ubuntu      /usr/lib/<triplet>/nsight-systems/target-linux-x64/nsys, the importer below
                        /usr/lib/nsight-systems/host-linux-x64 (reached over the links that lead to nsys)
    Nsight Compute      <base>/host/target-linux-x64/nsys
                        <base>/host/linux-desktop-*-x64/QdstrmImporter
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..traces.errors import RecorderError
from .processes import ask

VARIABLE: Final = "AISP_NSYS"
IMPORTER: Final = "QdstrmImporter"

PLACES: Final = (
    "opt/nvidia/nsight-systems/*/bin/nsys",
    "opt/nvidia/nsight-systems-cli/*/bin/nsys",
    "opt/nvidia/nsight-systems*/*/target-linux-*/nsys",
    "opt/nvidia/nsight-compute/*/host/target-linux-*/nsys",
)
"""Where NVIDIA's packages put nsys without putting it on the PATH, best first; the newest version of each wins."""

DEBIAN_PACKAGES: Final = {"libdw.so.1": "libdw1", "libelf.so.1": "libelf1", "libglib-2.0.so.0": "libglib2.0-0"}
"""Debian and Ubuntu packages of libraries the importer was seen to lack, or may."""

INSTALL: Final = (
    "install Nsight Systems (on Debian or Ubuntu: scripts/install-nsys-debian.sh) "
    f"or name its nsys in the variable {VARIABLE}"
)


@dataclass(frozen=True, slots=True)
class Importer:
    """The program that turns a .qdstrm into a .nsys-rep. `problem` is null, or one sentence with its remedy."""

    path: Path
    problem: str | None

    def environment(self) -> dict[str, str]:
        """The variables it needs to find its own libraries, which lie in its folder."""
        inherited = os.environ.get("LD_LIBRARY_PATH")
        folder = str(self.path.parent)
        return {"LD_LIBRARY_PATH": f"{folder}:{inherited}" if inherited else folder}


@dataclass(frozen=True, slots=True)
class Nsys:
    """An nsys that answered. `version` is like ``2022.4.2.1``; `options` are the long options of ``nsys profile``."""

    path: Path
    version: str
    options: frozenset[str]
    importer: Importer | None
    linked: bool  # whether nsys finds the importer by itself

    @property
    def release(self) -> tuple[int, int]:
        """Year and number: (2022, 4)."""
        year, number = self.version.split(".")[:2]
        return int(year), int(number)

    @property
    def problem(self) -> str | None:
        """Why it could record but not make a report, with the remedy; null if it can."""
        if self.importer is None:
            return (
                f"{self.path} has no {IMPORTER} beside it, so its recordings cannot be read; "
                f"install the complete Nsight Systems (on Debian or Ubuntu: scripts/install-nsys-debian.sh)"
            )
        return self.importer.problem


def find_nsys(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Nsys | None:
    """The nsys to record with: $AISP_NSYS, else the PATH's, else the newest in NVIDIA's folders below `root`.

    Null if there is none that answers. Raises `RecorderError` if $AISP_NSYS names one that does not.
    """
    named = environ.get(VARIABLE)
    if named:
        found = probe(Path(named))
        if found is None:
            raise RecorderError(f"{VARIABLE} names {named}, which does not answer `--version` as nsys does; correct it")
        return found
    fallback = None
    for candidate in _candidates(environ, root):
        found = probe(candidate)
        if found is not None and found.problem is None:
            return found
        fallback = fallback or found
    return fallback


def _candidates(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    on_path = shutil.which("nsys", path=environ.get("PATH"))
    if on_path:
        yield Path(on_path)
    for place in PLACES:
        yield from sorted(root.glob(place), key=_version_key, reverse=True)


def _version_key(path: Path) -> tuple[int, ...]:
    """The first dotted number in the path, for sorting: 2025.10 is newer than 2025.3."""
    found = re.search(r"(\d+(?:\.\d+)+)", str(path))
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def probe(path: Path) -> Nsys | None:
    """What `path` is, if it answers as nsys does."""
    version = parse_version(ask([str(path), "--version"]) or "")
    if version is None:
        return None
    options = parse_options(ask([str(path), "profile", "--help"]) or "")
    importer, linked = find_importer(path)
    checked = None if importer is None else Importer(importer, importer_problem(importer))
    return Nsys(path=path, version=version, options=options, importer=checked, linked=linked)


def parse_version(text: str) -> str | None:
    """``2022.4.2.1`` of ``NVIDIA Nsight Systems version 2022.4.2.1-df9881f``; null for anything else."""
    found = re.search(r"Nsight Systems.*?(\d{4}(?:\.\d+)+)", text)
    return found[1] if found else None


def parse_options(text: str) -> frozenset[str]:
    """The long options that a help text declares at the start of its lines, without dashes."""
    return frozenset(re.findall(r"^\s*(?:-\w, )?--([a-z][a-z-]+)", text, flags=re.MULTILINE))


def find_importer(nsys: Path) -> tuple[Path | None, bool]:
    """(the importer that belongs to `nsys`, whether nsys finds it by itself)."""
    for step in _link_steps(nsys):
        base = step.parent.parent
        for pattern in ("host-linux-*", "linux-desktop-*", "host/linux-desktop-*"):
            for folder in sorted(base.glob(pattern), reverse=True):
                importer = folder / IMPORTER
                if os.access(importer, os.X_OK):
                    own = step == nsys.resolve() and folder.name.startswith("host-linux-")
                    return importer, own
    return None, False


def _link_steps(path: Path) -> list[Path]:
    """Every place the links from `path` lead over, the real file first; links of parent folders count as steps."""
    steps = [path.absolute()]
    for _ in range(40):  # the kernel's own bound on links followed
        last = steps[-1]
        if not last.is_symlink():
            break
        steps.append(Path(os.path.normpath(last.parent / last.readlink())))
    resolved = path.resolve()
    return [resolved, *(step for step in reversed(steps) if step != resolved)]


def importer_problem(importer: Path) -> str | None:
    """Why the importer does not start, naming the shared library it lacks and the remedy; null if it starts."""
    environment = {**os.environ, **Importer(importer, None).environment()}
    try:
        done = subprocess.run(
            [str(importer), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{importer} does not start ({exc}); install Nsight Systems again"
    if done.returncode == 0:
        return None
    text = (done.stderr + done.stdout).decode("utf-8", "replace")
    library = missing_library(text)
    if library is None:
        return f"{importer} does not start ({text.strip()[-200:] or done.returncode}); install Nsight Systems again"
    package = DEBIAN_PACKAGES.get(library)
    remedy = f"apt-get install {package}" if package else f"install the package that holds {library}"
    return f"{importer} needs the shared library {library}, which is missing; {remedy}"


def missing_library(text: str) -> str | None:
    """The library a loader's message says is missing."""
    found = re.search(r"([\w.+-]+\.so[\w.]*): cannot open shared object file", text)
    found = found or re.search(r"([\w.+-]+\.so[\w.]*) => not found", text)
    return found[1] if found else None
