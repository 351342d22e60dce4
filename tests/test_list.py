"""``aisp-trace list``: what it shows, and that it needs neither torch nor polars to show it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from aisp_trace.capture.host import usable_gpus
from aisp_trace.cli.commands import list as command
from aisp_trace.report.documents.workloads import document
from aisp_trace.report.terminal.workloads import workloads_text
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.workloads.catalog import CATALOG, Entry

LONG = Entry(
    name="integrated_kv_cache",
    title="a title " * 12,
    variants=(
        ("baseline", "grown by concatenation " * 6),
        ("preallocated", "one"),
        ("paged", "two"),
        ("optimized", "three"),
    ),
    needs="two GPUs of one host that can reach each other, and a great deal of pinned host memory",
    proves="what is claimed",
)


def test_the_table_is_readable_at_80_columns() -> None:
    text = workloads_text([*CATALOG, LONG])
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for entry in (*CATALOG, LONG):
        assert entry.name in words, "names are never broken"
        assert set(entry.variant_names) <= set(words)
        for said in (entry.needs, entry.proves, *(description for _, description in entry.variants)):
            assert set(said.split()) <= set(words)


def test_rows_stand_side_by_side() -> None:
    entry = dataclasses.replace(LONG, needs="a CUDA GPU", proves="it pays")
    rows = workloads_text([entry]).splitlines()
    assert rows[0] == "workload             variants      needs       proves"
    assert rows[2:6] == [
        "integrated_kv_cache  baseline      a CUDA GPU  it pays",
        "                     preallocated",
        "                     paged",
        "                     optimized",
    ]


def test_json_says_everything_the_catalog_knows(capsys: pytest.CaptureFixture[str]) -> None:
    command.run(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "aisp-trace/list/1"
    first = found["workloads"][0]
    assert set(first) == {field.name for field in dataclasses.fields(Entry)} | {"module", "runs_here_on"}
    assert [w["name"] for w in found["workloads"]] == [e.name for e in CATALOG]
    assert first["name"] == "pipeline_sequential"
    assert [v["name"] for v in first["variants"]] == ["baseline", "optimized", "cuda_graph"]
    assert first["devices"] == ["cpu", "cuda"]
    assert first["module"] == "aisp_trace.workloads.pipeline_sequential"


def test_the_table_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    command.run()
    assert capsys.readouterr().out == workloads_text(CATALOG, usable_gpus()) + "\n"


def test_it_says_where_this_machine_can_run_each() -> None:
    pair = dataclasses.replace(LONG, gpus=2, variant_needs={"paged": "cuda"})
    said = {gpus: workloads_text([pair], gpus) for gpus in range(3)}
    assert "This machine can run it on cpu, without paged." in said[0]
    assert "This machine can run it on cpu, without paged." in said[1]
    assert "This machine can run it on cpu and cuda." in said[2]
    assert document([pair], 1)["workloads"][0]["runs_here_on"] == ["cpu"]
    only = dataclasses.replace(pair, devices=("cuda",))
    assert "This machine cannot run it: it needs 2 GPUs and 1 can be used." in workloads_text([only], 1)
    assert document([only], 1)["workloads"][0]["runs_here_on"] == []


def test_listing_imports_no_torch_and_no_polars() -> None:
    code = (
        "import sys; from aisp_trace.cli.commands.list import run; run(); "
        "sys.exit(', '.join({'torch', 'polars', 'numpy', 'plotly'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
