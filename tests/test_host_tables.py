"""What a trace holds beside device operations: other NVTX domains, and calls where no device row says what they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.cli.main import main
from aisp_trace.report.terminal.analysis import print_analysis
from aisp_trace.tests.oracle.build import build, call, device, op, span
from aisp_trace.traces.model import Trace

SAMPLE = Path(__file__).resolve().parents[1] / "traces" / "samples" / "h100_pipeline_decode.sqlite.xz"


def only_calls() -> Trace:
    calls = [call("cudaMalloc", 10 * i, 10 * i + 3 + i) for i in range(4)]
    calls.append(call("cudaMemcpy", 2, 9, tid=11))
    return build(api=calls, ranges=[span("load", 0, 25)])


def test_calls_are_listed_where_nothing_says_what_the_device_did(capsys: pytest.CaptureFixture[str]) -> None:
    found = analyze(only_calls())
    assert found.api_calls.rows() == [("cudaMalloc", 4, 18, 6), ("cudaMemcpy", 1, 7, 7)]
    assert analyze(only_calls(), window=(10, 30)).api_calls.rows() == [("cudaMalloc", 2, 9, 5)]
    print_analysis(found)
    assert "calls, all threads  n     ms  longest" in capsys.readouterr().out


def test_they_are_not_where_device_operations_do() -> None:
    some = build(ops=[op("compute", 5, 9, 1)], api=[call("cudaLaunchKernel", 1, 2, 1)], devices=[device(0)])
    assert analyze(some).api_calls.is_empty()


def test_other_domains_are_named_with_the_option_that_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    ranges = [span(f"r{i}", i, i + 1, domain=name) for i, name in enumerate(["", "my app", "my app", "x", "my app"])]
    some = build(ranges=ranges, ops=[op("compute", 5, 9, 1)], devices=[device(0)])
    assert analyze(some).domains.rows() == [("my app", 3), ("", 1), ("x", 1)]
    print_analysis(analyze(some))
    out = " ".join(capsys.readouterr().out.split())
    assert "ranges of other NVTX domains: my app (3), x (1); --domain 'my app' makes them the stages" in out
    print_analysis(analyze(some, domain="x"))
    out = " ".join(capsys.readouterr().out.split())
    assert "ranges of other NVTX domains: my app (3), the default one (1); --domain 'my app'" in out


def test_a_trace_of_one_domain_says_nothing_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    print_analysis(analyze(only_calls()))
    assert "other NVTX domains" not in capsys.readouterr().out


def test_json_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(SAMPLE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["traces"][0]
    assert found["api_calls"] == []
    assert sum(one["ranges"] for one in found["domains"]) > 100
