#!/usr/bin/env bash
# Writes requirements.lock and docs/requirements.lock: what `make` and `make docs` install, each file by its hash. Versions are
# those of constraints.txt; where that does not say one, the newest. Needs a package index, and uv, which it installs into an
# environment of its own.
#
# torch is in neither: its builds for CPUs and for CUDA have the same version and other hashes, and which one is installed
# depends on the index (TORCH_INDEX). What torch needs is. Nor is pywin32, which mcp needs on Windows: nothing here runs there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/uv"
"$folder/uv/bin/python" -m pip --disable-pip-version-check --quiet install uv

.venv/bin/python - "$folder" <<'PYTHON'
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
torch = [text for text in requires("torch") or () if Requirement(text).marker is None]
asked = [*project["dependencies"], *(r for r in extras["workloads"] if Requirement(r).name != "torch"), *extras["dev"]]
Path(sys.argv[1], "make.txt").write_text("\n".join([*asked, *torch, "pip", "setuptools"]), encoding="utf-8")
Path(sys.argv[1], "docs.txt").write_text("\n".join(extras["docs"]), encoding="utf-8")
PYTHON

# lock TARGET WHAT FILE PYTHON: the versions for Linux with that Python and newer
lock() {
    "$folder/uv/bin/uv" pip compile --quiet --universal --python-version "$4" --generate-hashes --no-annotate --no-header \
        --allow-unsafe --no-emit-package pywin32 --constraint constraints.txt "$folder/$3" --output-file "$folder/lock"
    {
        printf '# Made by `make lock` from pyproject.toml and constraints.txt: what `%s` installs, each file by its hash.\n' "$2"
        cat "$folder/lock"
    } >"$1"
}
lock requirements.lock make make.txt 3.11
lock docs/requirements.lock 'make docs' docs.txt 3.11.5 # the oldest that its Markdown extensions allow
