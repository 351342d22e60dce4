#!/usr/bin/env bash
# Builds docs/ as a site into build/docs, strictly: a warning (a link that leads nowhere, a page outside the navigation) fails it.
# Called by `make docs`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
export NO_MKDOCS_2_WARNING=1 # the theme's remark on a mkdocs that pyproject.toml excludes
"$python" -P scripts/commands.py --check
# Not --quiet: it hides the warnings from --strict as well.
"$python" -P -m mkdocs build --strict "$@"
printf 'make-docs: build/docs/index.html\n'
