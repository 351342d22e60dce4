"""The project under other versions of what it depends on than those that `make` installs: ``make test-versions``.

python -P scripts/check_versions.py [--python PYTHON] [--side analysis|capture] [oldest | middle | newest ...]

For each word (by default all three) makes two environments from the package index and runs a slice of the tests in them:

    analysis   every dependency of pyproject.toml in that version, without torch: readers, ledger, judging, export, ranks
    capture    typer and nvidia-ml-py in that version, torch and nvtx linked from this environment: the command line and a capture

``oldest`` is the lower bound in pyproject.toml, ``middle`` the median of the releases from there on, ``newest`` the newest.
`ODD` is tried with ``newest``. PYTHON is that of the analysis side (default: this one; linked packages fit only this one).
Leaves 0 if all passed, 1 if one failed. Where the package index cannot be reached nothing is tried, which is said, and it
leaves 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.version import Version

from aisp_trace.tests.builders.light_environment import RECORDING, make_environment

ROOT: Final = Path(__file__).resolve().parents[1]

WORDS: Final = ("oldest", "middle", "newest")

ODD: Final = "0.27.2"
"""A typer that names an option without an explicit name after its metavar's case: `capture --name` was `--NAME`."""

AT_ONCE: Final = 2
"""Environments tried side by side."""

TOOLS: Final = ("pytest", "hypothesis", "jsonschema", "PyYAML", "packaging")
"""What the tests themselves need, in the versions of constraints.txt."""

ANALYSIS: Final = ("nsys_reader", "kineto_reader", "intervals", "expectations_judge", "check_command", "export_tables")
CAPTURE: Final = ("typers",)
"""The slice of the tests for each side: each dependency is used by one of them in earnest."""


def main(asked: list[str]) -> int:
    """Try what is `asked` and say what became of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", choices=[*WORDS, []], metavar="oldest|middle|newest")
    parser.add_argument("--python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--side", choices=("analysis", "capture"))
    given = parser.parse_args(asked)
    if not released("typer"):
        say("skipped: the package index cannot be reached, so only the installed versions were tried")
        return 0
    tries = [t for word in given.words or WORDS for t in sides(word, given.python) if given.side in (None, t[0])]
    with tempfile.TemporaryDirectory(prefix="aisp-trace-versions-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [
            pool.submit(tried, side, name, requirements, base, Path(folder) / str(number))
            for number, (side, name, requirements, base) in enumerate(tries)
        ]
        found = [one.result() for one in waiting]
    return 0 if all(found) else 1


def sides(word: str, python: str) -> Iterable[tuple[str, str, list[str], str]]:
    """(side, name, requirements, Python) of each environment for a word."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(text) for text in project["dependencies"]]
    measuring = [Requirement(text) for text in project["optional-dependencies"]["gpu"]]
    pins = dict(pinned())
    tools = [f"{name}=={pins[name.lower()]}" for name in TOOLS]
    frames = [Requirement(text) for text in project["optional-dependencies"]["pandas"]]
    yield "analysis", word, [*(chosen(one, word) for one in (*needed, *frames)), *tools], python
    typers = [one for one in needed if one.name == "typer"]
    yield "capture", word, [chosen(one, word) for one in (*typers, *measuring)], sys.executable
    if word == "newest":
        yield "capture", f"typer {ODD}", [f"typer=={ODD}"], sys.executable


def pinned() -> Iterable[tuple[str, str]]:
    """(name in lower case, version) of each line of constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, equal, version = line.partition("==")
        if equal and not line.startswith("#"):
            yield name.lower(), version.split()[0]


def chosen(one: Requirement, word: str) -> str:
    """`one` as pip is to install it for a word."""
    if word == "newest" or any(s.operator == "==" for s in one.specifier):
        return str(one)
    (oldest,) = (s.version for s in one.specifier if s.operator == ">=")
    if word == "oldest":
        # A bound such as 1.3 is met by 1.3.0; one such as 12.535 by its first release.
        here = [v for v in released(one.name) if v >= Version(oldest)]
        return f"{one.name}=={here[0] if here else oldest}"
    here = [v for v in released(one.name) if v in one.specifier]
    return f"{one.name}=={here[len(here) // 2]}"


@cache
def released(name: str) -> list[Version]:
    """The releases of a package in the index for this Python, oldest first; empty if the index cannot be reached."""
    options = ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, "index", "versions", name], capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("Available versions:")]
    return sorted(Version(word) for line in lines for word in line.partition(":")[2].replace(",", " ").split())


def tried(side: str, name: str, requirements: list[str], base: str, folder: Path) -> bool:
    """Whether the tests of a `side` pass with `requirements`; their output is shown where they do not."""
    linked: tuple[str, ...] = RECORDING if side == "capture" else ()
    try:
        python = make_environment(folder, *requirements, linked=linked, base=base)
    except subprocess.CalledProcessError as error:
        say(f"{side}, {name}: {' '.join(requirements)} cannot be installed\n{error.stderr}")
        return False
    runner = sys.executable if side == "capture" else str(python)
    environment: dict[str, Any] = {**os.environ, **({"AISP_TYPER_PYTHON": str(python)} if side == "capture" else {})}
    tests = [f"tests/test_{one}.py" for one in (CAPTURE if side == "capture" else ANALYSIS)]
    # What one library says of another's old age, as typer of an old click's, is not for this project to mend.
    command = [runner, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    passed = done.returncode == 0
    lines = done.stdout.rstrip().splitlines() or [done.stderr.rstrip()]
    what = f"{side}, {name} ({' '.join(requirements)})"
    say(f"{what}: {lines[-1]}" if passed else f"{what} failed\n{done.stdout}{done.stderr}")
    return passed


def say(text: str) -> None:
    """Print a line at once: the next environment takes a while."""
    print(f"check_versions: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
