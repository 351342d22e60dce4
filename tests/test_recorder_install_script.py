"""The Debian script's editing of apt sources, on copies; the installation itself needs root and a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from aisp_trace.tests.patience import PATIENCE_S

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "install-nsys-debian.sh"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash is installed")

DEBIAN_DEB822 = """Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://deb.nodesource.com/node_20.x
Suites: nodistro
Components: main
"""
DEBIAN_LINES = """# deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm main
deb [arch=amd64] http://security.example/debian-security bookworm-security main non-free
deb https://packages.cloud.google.com/apt cloud-sdk-bookworm main
"""
UBUNTU_DEB822 = """Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble
Components: main universe
"""


def edit(tmp_path: Path, system: str, name: str, text: str) -> subprocess.CompletedProcess[str]:
    """Let the script edit a source file called `name` that holds `text`, on a machine that says it is `system`."""
    (tmp_path / "sources.list.d").mkdir(exist_ok=True)
    (tmp_path / "os-release").write_text(f"ID={system}\n", encoding="utf-8")
    (tmp_path / "sources.list.d" / name).write_text(text, encoding="utf-8")
    variables = {
        "APT_SOURCES_LIST": str(tmp_path / "sources.list"),
        "APT_SOURCES_DIR": str(tmp_path / "sources.list.d"),
        "OS_RELEASE": str(tmp_path / "os-release"),
    }
    return subprocess.run(
        ["bash", str(SCRIPT), "--sources-only"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def changed_lines(before: str, after: str) -> list[str]:
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    return [line for line, was in zip(new, old, strict=True) if line != was]


@pytest.mark.parametrize(
    ("system", "name", "text", "expected"),
    [
        ("debian", "debian.sources", DEBIAN_DEB822, ["Components: main non-free-firmware contrib non-free"]),
        (
            "debian",
            "debian.list",
            DEBIAN_LINES,
            [
                "deb http://mirror.example/debian bookworm main contrib non-free",
                "deb [arch=amd64] http://security.example/debian-security bookworm-security main non-free contrib",
            ],
        ),
        ("ubuntu", "ubuntu.sources", UBUNTU_DEB822, ["Components: main universe multiverse"]),
    ],
)
def test_components_are_added_to_the_distributions_own_entries_once(
    system: str, name: str, text: str, expected: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "sources.list.d" / name
    done = edit(tmp_path, system, name, text)
    assert done.returncode == 0, done.stderr
    once = file.read_text(encoding="utf-8")
    assert changed_lines(text, once) == expected
    again = edit(tmp_path, system, name, once)
    assert (again.returncode, again.stdout) == (0, "")
    assert file.read_text(encoding="utf-8") == once


def test_a_machine_without_entries_of_the_archive_is_told(tmp_path: Path) -> None:
    done = edit(tmp_path, "debian", "other.list", "deb https://packages.cloud.google.com/apt cloud-sdk-bookworm main\n")
    assert done.returncode == 1
    assert "no entry of the debian archive was found" in done.stderr


def test_another_distribution_is_refused(tmp_path: Path) -> None:
    done = edit(tmp_path, "fedora", "fedora.list", "")
    assert done.returncode == 1
    assert "this is fedora, not Debian or Ubuntu" in done.stderr
