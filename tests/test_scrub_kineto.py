"""A scrubbed torch.profiler trace reads as the same trace and holds nothing of where it came from."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.model import TABLES
from aisp_trace.traces.scrub.kineto import scrub_kineto

SECRET = "hunter2-AKIAIOSFODNN7EXAMPLE"
NAMES = ("processes", "threads")
"""Tables of names, which are left out."""


def test_it_reads_as_the_same_trace_without_the_secrets_planted_in_it(tmp_path: Path) -> None:
    document = json.loads(gzip.decompress((SAMPLES / "h100_pipeline_decode_kineto.json.gz").read_bytes()))
    whole, scrubbed = tmp_path / "whole.json", tmp_path / "scrubbed.json"
    document |= {"host_name": SECRET, "traceName": f"/home/someone/{SECRET}.json", "env": {"TOKEN": SECRET}}
    for event in document["traceEvents"]:
        event.setdefault("args", {})["Call stack"] = f"/home/someone/{SECRET}.py(12)"
        event["note"] = SECRET
    document["traceEvents"].append({"ph": "X", "cat": "python_function", "name": SECRET, "ts": 1, "dur": 1})
    document["traceEvents"].append({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": SECRET}})
    for device in document.get("deviceProperties", []):
        device["uuid"] = SECRET
    whole.write_text(json.dumps(document))
    scrub_kineto(whole, scrubbed)
    assert SECRET not in scrubbed.read_text()
    assert "/home/" not in scrubbed.read_text()
    before, after = read_kineto(whole), read_kineto(scrubbed)
    assert after.ops.height > 0
    kept = before.ranges.filter(pl.col("domain").cast(pl.String) != "torch.python").drop("range_id")
    for column in kept.columns:  # Python functions are left out: their names are those of files
        assert after.ranges[column].cast(pl.String).equals(kept[column].cast(pl.String), null_equal=True), column
    for table in TABLES:
        if table not in (*NAMES, "ranges"):
            assert after.table(table).equals(before.table(table)), table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not complete JSON"),
        ("{}", "no list `traceEvents`"),
        ("[1]", "no list `traceEvents`"),
        ('{"traceEvents": 5}', "no list `traceEvents`"),
    ],
)
def test_what_is_no_trace(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InputError, match=words):
        scrub_kineto(file, tmp_path / "y.json")
