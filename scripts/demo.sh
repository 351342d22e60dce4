#!/usr/bin/env bash
# From a recording to a verdict, twice: a run of an H200 that lies here, then a pair of this machine's own. Called by `make demo`.
# DEMO_ARGS holds more options for the capture, for instance DEMO_ARGS='--rounds 12'.
# A missed or undecided claim is an answer, not a failure of the demo; anything else that goes wrong ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d .venv ] && PATH="$PWD/.venv/bin:$PATH"
read -r -a extra <<<"${DEMO_ARGS:-}"

show() { printf '\n$ aisp-trace %s\n' "$*"; aisp-trace "$@"; }

judged() {
    local code=0
    show check "$@" || code=$?
    case $code in 0 | 1 | 3) ;; *) exit "$code" ;; esac
}

sample=traces/samples/h200_pipeline_sequential
printf '1. A run that was recorded on an H200\n'
printf '\n$ aisp-trace analyze %s | head -9\n' "$sample"
aisp-trace analyze "$sample" | head -9 || true # head closes the pipe
judged "$sample"
show report "$sample" -o report-h200.html --force

printf '\n2. A pair on this machine: 32 requests one by one, and as one\n'
mkdir -p aisp-runs/demo
claims=aisp-runs/demo/expectations
python -P scripts/demo_claims.py "$claims"
show capture end_to_end_bandwidth --variant baseline --variant batched --size tiny --rounds 8 \
    --output aisp-runs/demo ${extra[@]+"${extra[@]}"}
run=$(python -P -c 'from pathlib import Path; from aisp_trace.traces.run import newest_run
print(newest_run(Path("aisp-runs/demo")).path)')
judged "$run" --expectations "$claims"
show report "$run" --expectations "$claims" -o report.html --force
printf '\n'
python -P scripts/demo_summary.py "$run" report.html "$claims"
