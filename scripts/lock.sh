#!/usr/bin/env bash
# Writes requirements.lock: what `make` installs, each file by its hash. Versions are those of constraints.txt; where that
# does not say one, the newest. Needs a package index, and uv, which it installs into an environment of its own.
#
# torch is not in it: its builds for CPUs and for CUDA have the same version and other hashes, and which one is installed
# depends on the index (TORCH_INDEX). What torch needs is. Nor is pywin32, which mcp needs on Windows: nothing here runs there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/uv"
"$folder/uv/bin/python" -m pip --disable-pip-version-check --quiet install uv

.venv/bin/python - >"$folder/asked.txt" <<'PYTHON'
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
torch = [Requirement(text) for text in requires("torch") or ()]
print(*project["dependencies"], *(r for r in extras["workloads"] if Requirement(r).name != "torch"), *extras["dev"], *extras["docs"], sep="\n")
print(*(r for r in torch if r.marker is None), "pip", "setuptools", sep="\n")
PYTHON

"$folder/uv/bin/uv" pip compile --quiet --universal --python-version 3.11.5 --generate-hashes --no-annotate --no-header \
    --allow-unsafe --no-emit-package pywin32 --constraint constraints.txt "$folder/asked.txt" --output-file "$folder/lock"
{
    echo '# Made by `make lock` from pyproject.toml and constraints.txt: what `make` installs, each file by its hash.'
    cat "$folder/lock"
} >requirements.lock
