"""What a page costs beside its analysis: memory and size, with a kernel name of 4 MB."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from aisp_trace.tests.builders.samples import unpack

LENGTH = 4_000_000

MEASURED = """
import resource, sys
from aisp_trace.cli.main import main
code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def _peak(folder: Path, *words: str) -> int:
    """Peak memory in kB of a command in a process of its own."""
    command = [sys.executable, "-P", "-c", MEASURED, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, peak = done.stderr.split()[-2:]
    assert code == "0", done.stderr
    return int(peak)


@pytest.fixture
def long_named(tmp_path: Path) -> Path:
    """A recording whose most frequent kernel has a name of 4 MB."""
    target = tmp_path / "long.sqlite"
    shutil.copy(unpack("h100_pipeline_decode", tmp_path), target)
    with sqlite3.connect(target) as database:
        most = "SELECT demangledName FROM CUPTI_ACTIVITY_KIND_KERNEL GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        (name,) = database.execute(most).fetchone()
        database.execute("UPDATE StringIds SET value = ? WHERE id = ?", ("<A" * (LENGTH // 2), name))
    database.close()
    return target


def test_a_page_takes_little_more_memory_than_its_analysis_whatever_names_are_in_it(long_named: Path) -> None:
    folder = long_named.parent
    analysed = _peak(folder, "analyze", "--no-cache", long_named.name)
    reported = _peak(folder, "report", long_named.name, "-o", "page.html")
    assert reported < 1.5 * analysed
    page = (folder / "page.html").read_bytes()
    assert len(page) < 2_500_000 and b"&lt;A&lt;A" in page and b"<A<A" not in page
