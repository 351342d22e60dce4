"""docs/releasing.md runs as it stands: version, wheel, source archive and tag, in a clone of this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"), reason="a release is made from a git checkout"
)

GIT = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "T"), ("EMAIL", "t@e.x"))
    },
}


def commands(section: int) -> list[str]:
    """The command lines of one numbered section."""
    page = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
    text = re.split(r"^## ", page, flags=re.MULTILINE)[section]
    assert text.startswith(f"{section}. ")
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    target = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True, env={**os.environ, **GIT})
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, target)
    return target


def test_version_wheel_and_tag_are_made_as_the_page_says(clone: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = [line for section in (2, 3, 5) for line in commands(section)]
    assert len(lines) > 15
    changelog = clone / "CHANGELOG.md"
    first = changelog.read_text(encoding="utf-8").split("\n## ")[1]
    script = "\n".join(["set -euo pipefail", *lines])
    environment = {**os.environ, **GIT, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version = first.split()[0]
    tag = subprocess.run(
        ["git", "tag", "-l", f"v{version}", "--format=%(contents)"], cwd=clone, capture_output=True, text=True
    )
    assert first.partition("\n")[2].strip() in tag.stdout
    assert re.search(
        rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "aisp_trace/cli/main.py" in done.stdout
    assert "17 met" in done.stdout
    for name in ("-py3-none-any.whl", ".tar.gz"):
        assert re.search(rf"^[0-9a-f]{{64}}  aisp_trace-{re.escape(version + name)}$", done.stdout, re.MULTILINE)
    with tarfile.open(clone / "build" / "release" / "dist" / f"aisp_trace-{version}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "cli/main.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "traces/samples/"))]


@pytest.mark.nightly  # it installs from a package index
def test_the_wheel_works_in_an_empty_environment(clone: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = [line for section in (2, 3, 4) for line in commands(section)]
    script = "\n".join(["set -euo pipefail", *lines])
    environment = {**os.environ, **GIT, "PATH": path}
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    empty = clone / "build" / "release" / "empty"
    assert (empty / "report.html").stat().st_size > 100_000
    assert "1 passed" in done.stdout and "17 met" in done.stdout


def test_a_version_without_its_section_stops_the_release(clone: Path) -> None:
    changelog = clone / "CHANGELOG.md"
    changelog.write_text(changelog.read_text(encoding="utf-8").replace("(unreleased)", "(soon)"), encoding="utf-8")
    script = "\n".join(["set -euo pipefail", *commands(2)])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, env={**os.environ, **GIT, "PATH": path}, check=False
    )
    assert done.returncode != 0
