#!/usr/bin/env bash
# Known vulnerabilities of the versions in requirements.lock and of torch, as pip-audit finds them. Needs a network, and
# installs pip-audit into an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder/audit"
"$folder/audit/bin/python" -m pip --disable-pip-version-check --quiet install pip-audit
grep '==' constraints.txt >"$folder/pins.txt"
"$folder/audit/bin/pip-audit" --disable-pip --no-deps --requirement "$folder/pins.txt" "$@"
