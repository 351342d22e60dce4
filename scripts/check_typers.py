"""The command line under the typers that pyproject.toml allows: ``make test-typers``.

python -P scripts/check_typers.py [VERSION | oldest | newest ...]

For each version (by default the oldest that is allowed, `ODD`, and the newest there is) makes an environment of torch and nvtx,
linked from this one, and that typer from the package index; then runs ``tests/test_typers.py`` against it. Leaves 0 if all
passed, 1 if one failed. Where the package index cannot be reached nothing is tried, which is said, and it leaves 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from aisp_trace.tests.builders.light_environment import make_environment

ROOT: Final = Path(__file__).resolve().parents[1]

ODD: Final = "0.27.2"
"""Names an option that has no explicit name after its metavar's case: `capture --name` was `--NAME`."""

AT_ONCE: Final = 3
"""Environments tried side by side: most of the time of each is spent waiting for processes to start."""


def main(asked: list[str]) -> int:
    """Try the versions `asked`, or the default ones, and say what became of each."""
    newest = newest_typer()
    if newest is None:
        say("skipped: the package index cannot be reached, so no typer but the installed one was tried")
        return 0
    words = {"oldest": oldest_typer(), "newest": newest}
    versions = list(dict.fromkeys(words.get(one, one) for one in asked or ("oldest", ODD, "newest")))
    with tempfile.TemporaryDirectory(prefix="aisp-trace-typers-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda version: tried(version, Path(folder) / version), versions))
    return 0 if all(found) else 1


def oldest_typer() -> str:
    """The lower bound in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (typer,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "typer")
    (oldest,) = (s.version for s in typer.specifier if s.operator == ">=")
    return oldest


def newest_typer() -> str | None:
    """The newest release in the package index; null if the index cannot be reached."""
    options = ["--disable-pip-version-check", "--retries", "0", "--timeout", "15"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, "index", "versions", "typer"], capture_output=True, text=True
    )
    first = done.stdout.partition("\n")[0]
    return first.removeprefix("typer (").removesuffix(")") if done.returncode == 0 else None


def tried(version: str, folder: Path) -> bool:
    """Whether the tests pass with typer `version`; their output is shown where they do not."""
    try:
        python = make_environment(folder, f"typer=={version}")
    except subprocess.CalledProcessError as error:
        say(f"typer {version} cannot be installed\n{error.stderr}")
        return False
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_typers.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "AISP_TYPER_PYTHON": str(python)}, capture_output=True, text=True
    )
    passed = done.returncode == 0
    lines = done.stdout.rstrip().splitlines() or [done.stderr.rstrip()]
    say(f"typer {version}: {lines[-1]}" if passed else f"typer {version} failed\n{done.stdout}{done.stderr}")
    return passed


def say(text: str) -> None:
    """Print a line at once: the next environment takes a while."""
    print(f"check_typers: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
