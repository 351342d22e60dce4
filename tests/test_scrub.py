"""A scrubbed export reads as the same trace and holds nothing of where it came from."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aisp_trace.tests.builders.nsys_export import SCHEMA, NsysExport, gid
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.model import TABLES
from aisp_trace.traces.nsys.read import read_nsys
from aisp_trace.traces.scrub.nsys import REMOVED, scrub_sqlite

SECRET = "hunter2-AKIAIOSFODNN7EXAMPLE"

# Text that analysis shows, and that is therefore kept: a program that puts a secret into these shows it on purpose.
SHOWN = {("NVTX_EVENTS", "text"), ("TARGET_INFO_GPU_METRICS", "metricName"), ("PROCESSES", "name")}


@pytest.mark.parametrize(
    "name",
    [
        "h100_pipeline_decode",
        "h100_pipeline_decode_graph_nodes",
        "h100_pipeline_decode_nsys2023",
        "h100_pipeline_decode_gpu_metrics_trimmed",
        "cpu_threads_nsys2022",
    ],
)
def test_a_scrubbed_sample_reads_as_the_same_trace(tmp_path: Path, name: str) -> None:
    whole = unpack(name, tmp_path)
    scrubbed = tmp_path / "scrubbed.sqlite"
    scrub_sqlite(whole, scrubbed)
    before, after = read_nsys(whole), read_nsys(scrubbed)
    for table in TABLES:
        drop = {"diagnostics": ["text"], "devices": ["uuid"]}.get(table, [])
        assert after.table(table).drop(drop).equals(before.table(table).drop(drop)), table
    assert after.meta.capture == before.meta.capture
    assert after.meta.anomalies == before.meta.anomalies
    assert (after.meta.recorder_version, after.meta.export_schema) == (
        before.meta.recorder_version,
        before.meta.export_schema,
    )


def planted() -> NsysExport:
    """An export with `SECRET` in every text column of the schema, and in strings that only dropped rows use."""
    export = NsysExport().kernel(1, 2).copy(3, 4).call(0, 1, "cudaLaunchKernel").range(0, 9, "stage")
    secret = export.string(f"TOKEN={SECRET}")
    for table, declared in SCHEMA.items():
        values: dict[str, object] = {}
        for column in declared.split(", PRIMARY KEY (")[0].split(", "):
            name, kind = column.split()[:2]
            if kind == "TEXT" and (table, name) not in SHOWN:
                values[name] = f"/home/someone/{SECRET}"
            elif name in ("filenameId", "contentId", "symbol", "module", "jsonTextId"):
                values[name] = secret
            elif table == "ThreadNames" and name == "nameId":
                values[name] = secret  # of a thread that owns no row
            elif name in ("globalPid", "globalTid", "globalVid"):
                values[name] = gid(100, 100) if table not in ("PROCESSES", "ThreadNames") else gid(7, 7)
            elif "NOT NULL" in column or name in ("start", "end", "timestamp", "severity", "id", "typeId", "metricId"):
                values[name] = 990 if "PRIMARY KEY" in column else 5
        if table == "PROCESSES":
            values["name"] = f"/opt/{SECRET}/sshd"
        if table == "StringIds":
            continue
        if values and not (table.startswith("CUPTI") or table == "OSRT_API"):
            export.add(table, **values)
    for key in ("PROCESS_0:ENVIRONMENT_0", "PROCESS_0:ARGUMENT_1", "EXPORT_USER", "EXPORT_PARAM_INPUT_PATH_ABS"):
        export.add("META_DATA_CAPTURE", name=key, value=SECRET).add("META_DATA_EXPORT", name=key, value=SECRET)
    export.add("EXPORT_META_DATA", name="EXPORT_PRODUCT_VERSION", value=f"/{SECRET}")
    export.add("PROCESSES", globalPid=gid(100), pid=100, name=f"/srv/{SECRET}/bin/python3")
    return export


def test_no_planted_secret_survives(tmp_path: Path) -> None:
    whole = planted().write(tmp_path / "whole.sqlite")
    with closing(sqlite3.connect(whole)) as db, db:
        db.execute(f"CREATE TABLE OTHER_TOOL (note TEXT /* {SECRET} */)")
        db.execute("INSERT INTO OTHER_TOOL VALUES (?)", [SECRET])
        db.execute(f"CREATE VIEW SOMETHING AS SELECT '{SECRET}' AS v")
        db.execute(f"CREATE INDEX '{SECRET}' ON StringIds(value)")
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET gridX = ?", [SECRET])  # text in a number's column
        db.execute("INSERT INTO StringIds VALUES (991, ?)", [f"orphan {SECRET}"])
    with closing(sqlite3.connect(whole)) as db, db:
        db.execute("INSERT INTO StringIds VALUES (992, ?)", [SECRET * 500])
        db.execute("DELETE FROM StringIds WHERE id = 992")  # leaves its bytes in free pages
    assert whole.read_bytes().count(SECRET.encode()) > 20
    scrubbed = tmp_path / "scrubbed.sqlite"
    scrub_sqlite(whole, scrubbed)
    content = scrubbed.read_bytes()
    assert SECRET.encode() not in content
    assert b"/home/" not in content
    assert SECRET.encode("utf-16-le") not in content
    after = read_nsys(scrubbed)
    assert after.ops.select("kind", "name").rows() == [("compute", "gemm"), ("h2d", "memcpy h2d")]
    assert after.api.get_column("name").to_list() == ["cudaLaunchKernel"]
    assert "stage" in after.ranges.get_column("name").to_list()
    assert after.processes.rows() == [(100, 0, 100, "python3")]
    assert after.diagnostics.get_column("text").to_list() == [REMOVED]


def test_names_of_processes_and_threads_can_be_left_out(tmp_path: Path) -> None:
    export = NsysExport().range(1, 2, "stage").add("PROCESSES", globalPid=gid(100), pid=100, name="payroll")
    export.add("ThreadNames", nameId=export.string("alice"), globalTid=gid(100, 100))
    whole = export.write(tmp_path / "whole.sqlite")
    scrub_sqlite(whole, tmp_path / "named.sqlite")
    scrub_sqlite(whole, tmp_path / "nameless.sqlite", keep_names=False)
    named, nameless = (read_nsys(tmp_path / f"{n}.sqlite") for n in ("named", "nameless"))
    assert (named.processes.get_column("name")[0], named.threads.get_column("name")[0]) == ("payroll", "alice")
    assert (nameless.processes.get_column("name")[0], nameless.threads.get_column("name")[0]) == (None, None)
    content = (tmp_path / "nameless.sqlite").read_bytes()
    assert b"alice" not in content
    assert b"payroll" not in content


def test_range_names_in_rows_stay_with_their_rows(tmp_path: Path) -> None:
    export = NsysExport().range(1, 9, "x", text="first").range(2, 8, "second").domain(1, "aisp")
    export.range(3, 7, "x", text="third", domainId=1)
    whole = export.write(tmp_path / "whole.sqlite")
    with closing(sqlite3.connect(whole)) as db, db:
        db.execute("UPDATE NVTX_EVENTS SET rowid = rowid * 10")
    scrub_sqlite(whole, tmp_path / "s.sqlite")
    assert read_nsys(tmp_path / "s.sqlite").ranges.select("name", "domain").rows() == [
        ("first", ""),
        ("second", ""),
        ("third", "aisp"),
    ]


def test_a_file_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as db, db:
        db.execute("CREATE TABLE people (name TEXT)")
    target = tmp_path / "target.sqlite"
    target.write_text("precious")
    with pytest.raises(InputError, match="not an nsys export"):
        scrub_sqlite(other, target)
    assert target.read_text() == "precious"
    whole = NsysExport().kernel(1, 2).write(tmp_path / "whole.sqlite")
    scrub_sqlite(whole, whole)  # in place
    assert read_nsys(whole).ops.height == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.sqlite", "target.sqlite", "whole.sqlite"]
