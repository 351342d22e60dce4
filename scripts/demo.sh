#!/usr/bin/env bash
# The main job from end to end on this machine: capture, analyze, check, report; then the three numbers that matter.
# Called by `make demo`. DEMO_ARGS holds more options for the capture, for instance DEMO_ARGS='--size tiny --rounds 8'.
# A missed or undecided claim is an answer, not a failure of the demo; anything else that goes wrong ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"
read -r -a extra <<<"${DEMO_ARGS:-}"

show() { printf '\n$ aisp-trace %s\n' "$*"; aisp-trace "$@"; }

show capture pipeline_sequential --profile minimal ${extra[@]+"${extra[@]}"}
run=$(python -P -c 'from pathlib import Path; from aisp_trace.traces.run import RUNS_DIR, newest_run
print(newest_run(Path(RUNS_DIR)).path)')
show analyze "$run"
code=0
show check "$run" || code=$?
case $code in 0 | 1 | 3) ;; *) exit "$code" ;; esac
show report "$run" -o report.html
printf '\n'
python -P scripts/demo_summary.py "$run" report.html
