"""The last lines of ``make demo``: where the reports are, and the three numbers that matter.

python -P scripts/demo_summary.py RUN REPORT CLAIMS
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from aisp_trace.analyze.result import Analysis
from aisp_trace.expectations.deciding import median_interval
from aisp_trace.expectations.judging.evidence import Evidence
from aisp_trace.expectations.judging.judged import analyses_of_run, headline_of, judge_run
from aisp_trace.expectations.judging.verdict import Verdict, counts, exit_code
from aisp_trace.report.terminal import console
from aisp_trace.traces.run import load_run


def main(run_folder: Path, report: Path, claims: Path) -> None:
    """Print the summary of the run in `run_folder`, judged by `claims`, whose page is `report`."""
    run = load_run(run_folder)
    analyses = analyses_of_run(run)
    judged = judge_run(run, analyses, claims)
    console.say(f"speedup  {speedup(judged.evidence)}")
    console.say(f"copies   {copies(analyses['baseline'])} an iteration before -> {copies(analyses['batched'])} after")
    console.say(f"verdict  {verdict(judged.verdicts)}")
    console.say(f"         {headline_of(judged)}")
    console.say(f"report   {report.resolve()}")


def speedup(evidence: Evidence) -> str:
    """Baseline over optimized, the median over the untraced rounds with its interval."""
    ratios = evidence.speedups("baseline", "batched")
    if ratios is None:
        return "no round timed both"
    estimate = median_interval(ratios.mean, evidence.looks)
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}x over {estimate.n} rounds, too few for an interval"
    return f"{estimate.value:.2f}x, between {estimate.low:.2f}x and {estimate.high:.2f}x over {estimate.n} rounds"


def copies(analysis: Analysis) -> str:
    """Copies between host and device in an iteration, over all devices."""
    ops = analysis.kinds.filter(pl.col("kind").is_in(["h2d", "d2h"]))["ops"].sum()
    return f"{ops / max(analysis.iterations.height, 1):,.0f}"


def verdict(verdicts: tuple[Verdict, ...]) -> str:
    """In one word, then how many claims ended how."""
    word = {0: "met", 1: "missed", 3: "undecided"}[exit_code(verdicts)]
    found = ", ".join(f"{n} {status}" for status, n in counts(verdicts).items() if n)
    return f"{word} ({found or 'no claims'})"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
