"""Make docs/results.md from recorded runs.

python -P scripts/results.py RUN... [--output docs/results.md] [--expectations DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from aisp_trace.expectations.judging.judged import analyses_of_run, judge_run
from aisp_trace.report.results.page import Result, page
from aisp_trace.report.terminal import console
from aisp_trace.traces.errors import AispTraceError
from aisp_trace.traces.output import Inputs, Kind, Output
from aisp_trace.traces.run import load_run

RESULTS: Final = Kind("page of results", lambda head: b"Made by `scripts/results.py` from the runs" in head[:400])


def main(arguments: list[str] | None = None) -> int:
    """Analyse and judge every run folder that is named, and print the page about them or write it."""
    parser = argparse.ArgumentParser(description="Make the page of results from recorded runs.", allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder made by `aisp-trace capture`")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the page; default: standard output")
    parser.add_argument("--expectations", type=Path, metavar="DIR", help="folder of expectations_*.json to judge by")
    parser.add_argument("--force", action="store_true", help="replace a file that is no earlier page of results")
    asked = parser.parse_args(arguments)
    try:
        made = page([_result(folder, asked.expectations) for folder in asked.runs])
        if asked.output is None:
            sys.stdout.write(made)
        else:
            Output(asked.output, RESULTS, Inputs(runs=asked.runs), asked.force).write_text(made)
    except AispTraceError as error:
        console.warn(str(error))
        return error.exit_code
    return 0


def _result(folder: Path, expectations: Path | None) -> Result:
    run = load_run(folder)
    console.warn(f"reading {run.manifest.run_id} ...")
    return Result(run.manifest, judge_run(run, analyses_of_run(run), expectations))


if __name__ == "__main__":
    sys.exit(main())
