"""What is shipped: exactly the packages and data files of the repository, and nothing else.

`packages` and `package-data` in pyproject.toml are kept by hand, because the repository root is the package. Here they
are compared with the files of the repository, without a build, and once with the content of a real wheel.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

NOT_SHIPPED = ("traces/samples", "tests", "docs", "benchmarks", "examples", "scripts", ".ci")
"""Folders that belong to the repository and not to the package."""

ROOT_SHIPS = ("__init__.py", "py.typed")
"""What the root adds to the package; its other files (README, Makefile, a report just written) belong to the checkout."""

GENERATED = {"__pycache__", "aisp-runs", "build", "dist"}
"""What lies about in a checkout without git, beside names that begin with a dot."""


def project_files() -> list[str]:
    """Paths of the repository's files, tracked or new but not ignored; without git, of all that is not generated."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return sorted(name for name in listed if name and (ROOT / name).is_file())
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [d for d in inner if d not in GENERATED and not d.endswith(".egg-info") and not d.startswith(".")]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in names]
    return sorted(name for name in found if name != "report.html" and not name.endswith(".aisp-cache"))


def pyproject() -> Mapping[str, Any]:
    setuptools: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "setuptools"
    ]
    return setuptools


def faults(files: list[str], setuptools: Mapping[str, Any]) -> list[str]:
    """Where `setuptools` (``[tool.setuptools]``) and `files` (paths of the repository) disagree; one line each."""
    shipped = [f for f in files if not _excluded(f)]
    packages = {_package(PurePosixPath(f).parent) for f in shipped if PurePosixPath(f).name == "__init__.py"}
    declared = set(setuptools["packages"])
    data: Mapping[str, list[str]] = setuptools["package-data"]
    found = [f"package {name} is not declared" for name in sorted(packages - declared)]
    found += [f"package {name} is declared and does not exist" for name in sorted(declared - packages)]
    found += [f"package-data names {name}, which is not a package" for name in sorted(set(data) - packages)]
    matched: set[tuple[str, str]] = set()
    for file in shipped:
        path = PurePosixPath(file)
        owner = next(p for p in path.parents if _package(p) in packages)
        if path.suffix == ".py" and path.parent == owner:
            if file != "__init__.py" and owner == PurePosixPath("."):
                found.append(f"module {file} lies at the root")
            continue
        patterns = [p for p in data.get(_package(owner), []) if _matches(path.relative_to(owner), p)]
        matched |= {(_package(owner), p) for p in patterns}
        if not patterns:
            found.append(f"file {file} is neither package data nor in a folder that is not shipped")
    unused = {(package, pattern) for package in data for pattern in data[package]} - matched
    return found + [f"package-data {pattern!r} of {package} matches no file" for package, pattern in sorted(unused)]


def _excluded(file: str) -> bool:
    if "/" not in file:
        return file not in ROOT_SHIPS and not file.endswith(".py")
    return any(file.startswith(folder + "/") for folder in NOT_SHIPPED)


def _package(folder: PurePosixPath) -> str:
    return ".".join(["aisp_trace", *folder.parts])


def _matches(path: PurePosixPath, pattern: str) -> bool:
    """As setuptools globs: a ``*`` does not cross a slash."""
    parts, wanted = path.parts, PurePosixPath(pattern).parts
    return len(parts) == len(wanted) and all(fnmatch.fnmatchcase(p, w) for p, w in zip(parts, wanted, strict=True))


def test_packages_and_data_are_those_of_the_repository() -> None:
    assert faults(project_files(), pyproject()) == []


GOOD_FILES = [
    "README.md", "__init__.py", "py.typed", "traces/__init__.py", "traces/run.py", "traces/samples/x.sqlite",
    "report/__init__.py", "report/page.html", "tests/test_x.py", ".ci/run",
]  # fmt: skip
GOOD: Mapping[str, Any] = {
    "packages": ["aisp_trace", "aisp_trace.traces", "aisp_trace.report"],
    "package-data": {"aisp_trace": ["py.typed"], "aisp_trace.report": ["*.html"]},
}


def test_agreement_is_silent() -> None:
    assert faults(GOOD_FILES, GOOD) == []


@pytest.mark.parametrize(
    ("files", "change", "expected"),
    [
        (["analyze/__init__.py"], {}, "package aisp_trace.analyze is not declared"),
        ([], {"packages": [*GOOD["packages"], "aisp_trace.gone"]}, "package aisp_trace.gone is declared and does not exist"),
        (["report/style.css"], {}, "file report/style.css is neither package data nor in a folder that is not shipped"),
        (["report/parts/a.html"], {}, "file report/parts/a.html is neither package data nor in a folder that is not shipped"),
        (["report/parts/a.py"], {}, "file report/parts/a.py is neither package data nor in a folder that is not shipped"),
        (["notes/idea.txt"], {}, "file notes/idea.txt is neither package data nor in a folder that is not shipped"),
        (["conftest.py"], {}, "module conftest.py lies at the root"),
        ([], {"package-data": {**GOOD["package-data"], "aisp_trace.traces": ["*.json"]}},
         "package-data '*.json' of aisp_trace.traces matches no file"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(files: list[str], change: dict[str, Any], expected: str) -> None:
    assert faults(sorted([*GOOD_FILES, *files]), {**GOOD, **change}) == [expected]


def test_a_wheel_holds_every_module_and_data_file_and_nothing_else(tmp_path: Path) -> None:
    """Built from a copy of the repository's files, so that a build folder left in the checkout cannot leak in."""
    source = tmp_path / "source"
    shipped = [f for f in project_files() if not _excluded(f)]
    for file in [*shipped, "LICENSE", "README.md", "pyproject.toml"]:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run([*command, "-w", str(tmp_path), str(source)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert sorted(n for n in names if ".dist-info/" not in n) == sorted(f"aisp_trace/{f}" for f in shipped)
    assert any(n.endswith("/licenses/LICENSE") for n in names)
    assert "aisp-trace = aisp_trace.cli.entry:leave" in entry_points
    assert "[pytest11]\naisp_trace = aisp_trace.cli.pytest_plugin" in entry_points


def test_scripts_can_be_run() -> None:
    scripts = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]
    assert [s.name for s in scripts if not os.access(s, os.X_OK)] == []
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "9. Accepting Warranty or Additional Liability." in text
    assert text.rstrip().endswith("limitations under the License.")


def test_every_requirement_is_pinned() -> None:
    """constraints.txt has the versions of all extras; what pyproject asks for and it does not pin would drift."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.partition("==")[0].lower() for line in lines if "==" in line and not line.startswith("#")}
    names = {r.replace(">", "=").replace("<", "=").partition("=")[0].strip().lower() for r in asked}
    assert names - pins == {"nvidia-cuda-nvrtc"}, "PyTorch for CUDA pins that one itself"
    assert "torch==2.13.0" in lines
    assert "nvtx==0.2.11" in lines


@pytest.mark.parametrize("target", ["make", "make docs"])
def test_the_lock_has_every_pin_and_its_hashes(target: str) -> None:
    """Both are installed with --require-hashes; `make` then installs torch, whose builds have other hashes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    of_make = [*project["dependencies"], *extras["workloads"], *extras["dev"]]
    file, asked, absent = {
        "make": ("requirements.lock", of_make, {"torch"}),
        "make docs": ("docs/requirements.lock", extras["docs"], set()),
    }[target]
    pins = dict(pinned((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    text = (ROOT / file).read_text(encoding="utf-8")
    locked = dict(pinned(text))
    assert {canonicalize_name(Requirement(one).name) for one in asked} - set(locked) == absent
    assert {name: version for name, version in locked.items() if pins.get(name) != version} == {}
    for entry in re.split(r"\n(?=\S)", text.partition("\n")[2].strip()):
        hashes = re.findall(r"--hash=(\S+)", entry)
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), entry[:60]


def pinned(text: str) -> list[tuple[str, str]]:
    """(name, version) of each line of `text` that pins one."""
    return [(canonicalize_name(m[1]), m[2]) for m in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.M)]


def test_no_file_mentions_a_machine() -> None:
    """Text files name no folder of the machine they were written on."""
    folders = [f"/{name}/".encode() for name in ("work", "root")]
    found = []
    for file in project_files():
        content = (ROOT / file).read_bytes()
        if b"\0" not in content[:8192]:
            found += [f"{file} mentions {folder.decode()}" for folder in folders if folder in content]
    assert found == []
