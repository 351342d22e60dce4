"""Whatever a file unfolds to, reading it takes no more bytes, memory and time than is stated, and says so in one sentence.

Limits of single doors are also tested where the door is: `test_documents` (JSON, gzip, xz), `test_bundle_archive`,
`test_ranks_partial`.
"""

from __future__ import annotations

import gc
import gzip
import io
import lzma
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.samples import unpack
from aisp_trace.tests.patience import PATIENCE_S, wait_until
from aisp_trace.traces import budget
from aisp_trace.traces.budget import MEMORY_VARIABLE, SECONDS_VARIABLE, BudgetError, charge, watched
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.open import open_trace

EVENT = b'{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1.0,"dur":1.0,"args":{"device":0,"stream":7}}'


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return unpack("h100_pipeline_decode", tmp_path)


def busy() -> None:
    """Work that an error ends."""
    wait_until(lambda: sum(range(2_000_000)) < 0, "the end of work that takes more than its budget")


# The net ------------------------------------------------------------------------------------------------------------


def test_memory_beyond_the_budget_is_one_sentence(
    trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(budget, "taken_bytes", rising(12 << 30))
    monkeypatch.setenv(MEMORY_VARIABLE, "9G")
    assert main(["analyze", str(trace), "--no-cache"]) == 2
    err = capsys.readouterr().err
    assert f"{trace} took over 9 GiB of memory, all that {MEMORY_VARIABLE} allows; if you trust it, allow more" in err
    assert err.count("\n") == 1


def rising(to: int) -> Callable[[], int]:
    """Memory that is `to` bytes from the first look after a trace is charged: a small trace is read between a few looks."""
    return lambda: to if budget._charged else 0


def test_processor_time_beyond_the_budget_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "0.2")
    said = r"took over 0.2 s of processor time, .* allow more with AISP_TRACE_SECONDS=2"
    with pytest.raises(BudgetError, match=said), watched():
        busy()


def test_an_error_that_python_swallows_is_raised_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors in callbacks of the garbage collector go no further than a traceback on stderr: it takes that long to end here."""
    monkeypatch.setattr(budget, "taken_bytes", rising(12 << 30))
    monkeypatch.setenv(MEMORY_VARIABLE, "9G")
    collections: list[str] = []

    def callback(phase: str, info: dict[str, int]) -> None:
        collections.append(phase)
        if len(collections) == 1:
            charge(Path("trace.sqlite"), 1, budget.SQLITE)
            busy()

    gc.callbacks.append(callback)
    try:
        with pytest.raises(BudgetError, match=r"trace\.sqlite took over 9 GiB"), watched():
            gc.collect()
            assert collections, "the callback was not called"
            busy()
    finally:
        gc.callbacks.remove(callback)
    assert capsys.readouterr().err == ""


def test_what_is_read_adds_to_what_it_may_take(tmp_path: Path) -> None:
    with watched():
        start = budget._allowance.memory, budget._allowance.seconds
        charge(tmp_path / "a", 1000, budget.SQLITE)
        charge(tmp_path / "a", 1000, budget.SQLITE)  # once more is no more
        charge(tmp_path / "b", 500, budget.TORCH)
        added = budget._allowance.memory - start[0], budget._allowance.seconds - start[1]
    assert added == pytest.approx((24 * 1000 + 4 * 500, 0.03))


def test_a_process_far_beyond_ends_itself_in_compiled_code(tmp_path: Path) -> None:
    """An error reaches no code that is not Python: then nobody waits for it."""
    program = (
        "import signal\nfrom aisp_trace.traces.budget import watched\n"
        "with watched():\n    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n"
        "    held = b'x' * (400 << 20)\n    while True: pass\n"
    )
    environment = {**os.environ, MEMORY_VARIABLE: "200M", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"aisp-trace: what was asked took over 0.195 GiB of memory, all that {MEMORY_VARIABLE} allows; if you trust it, allow "
        f"more with {MEMORY_VARIABLE}=2G\n"
    )


def test_nothing_stays_when_it_is_left() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    hook = sys.unraisablehook
    with watched():
        assert signal.getsignal(signal.SIGUSR2) is not before
    assert signal.getsignal(signal.SIGUSR2) is before
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(
    ("variable", "text"),
    [(MEMORY_VARIABLE, t) for t in ("5", "1e9", "-1G", "lots", "1K", "9" * 40 + "G", "1G\n")]
    + [(SECONDS_VARIABLE, t) for t in ("1h", "-1", "nan", "inf", "9" * 40)],
)
def test_a_variable_that_names_no_amount(
    variable: str, text: str, trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, text)
    assert main(["analyze", str(trace)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"aisp-trace: {variable} is ") and "; give " in err and err.count("\n") == 1


def test_too_little_memory_is_one_sentence(
    trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("aisp_trace.analyze.sources.find_recorded", full)
    assert main(["analyze", str(trace)]) == 2
    err = capsys.readouterr().err
    assert "too little memory" in err and err.count("\n") == 1


# Archives -----------------------------------------------------------------------------------------------------------


def zipped(content: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("trace.json", content)
    return whole.getvalue()


def tarred(content: bytes) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        info = tarfile.TarInfo("trace.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "tar": tarred,
}


@pytest.mark.parametrize("outer", PACKERS)
@pytest.mark.parametrize("inner", PACKERS)
def test_an_archive_in_an_archive_is_not_unpacked_twice(outer: str, inner: str, tmp_path: Path) -> None:
    file = tmp_path / f"trace.json.{inner}.{outer}"
    file.write_bytes(PACKERS[outer](PACKERS[inner](b'{"traceEvents": [' + EVENT + b"]}")))
    with pytest.raises(InputError, match="is neither") as told:
        open_trace(file)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == [file]


# JSON, SQLite -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "behind", "no list"])
def test_members_beside_the_events_are_bounded(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aisp_trace.traces.kineto.document._LONGEST_HEAD", 8 << 20)
    events, other = b'"traceEvents": [' + EVENT + b"]", b'"other": [' + b"[]," * (4 << 20) + b"1]"
    parts = {"before": [other, events], "behind": [events, other], "no list": [other]}[place]
    file = tmp_path / "trace.json"
    file.write_bytes(b"{" + b",".join(parts) + b"}")
    with pytest.raises(
        InputError, match="has more than 8,388,608 bytes beside its list of events; leave out its other members"
    ):
        open_trace(file)


def test_a_claimed_page_count_takes_nothing(trace: Path) -> None:
    with trace.open("r+b") as file:
        file.seek(28)
        file.write((2**32 - 2).to_bytes(4, "big"))
    with pytest.raises(InputError, match="it is truncated"):
        open_trace(trace)


def test_a_claimed_highest_rowid_takes_nothing(trace: Path) -> None:
    """Memory is taken for rows that exist, not for the numbers between them."""
    with closing(sqlite3.connect(trace)) as db:
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET rowid = 9223372036854775807 WHERE rowid = 1")
        db.commit()
    before = budget.taken_bytes()
    assert open_trace(trace).ops.height > 0
    assert budget.taken_bytes() - before < 1 << 30


def test_a_long_name_is_held_once(trace: Path, tmp_path: Path) -> None:
    """4 MB for a kernel that was launched 64 times or more."""
    with closing(sqlite3.connect(trace)) as db:
        (name, times), *_ = db.execute(
            "SELECT demangledName, count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL GROUP BY 1 ORDER BY 2 DESC"
        )
        assert times >= 64
        db.execute("UPDATE StringIds SET value = ? WHERE id = ?", ("A" * 4_000_000, name))
        db.commit()
    page = tmp_path / "report.html"
    environment = {**os.environ, MEMORY_VARIABLE: "500M", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-P", "-m", "aisp_trace.cli", "report", str(trace), "-o", str(page)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert page.stat().st_size < 4_000_000
