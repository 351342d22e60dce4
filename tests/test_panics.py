"""Panics of polars become errors that are handled like any other, and print nothing."""

from __future__ import annotations

import os
import threading

import polars as pl
import pytest

from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.panics import contained


def test_a_panic_is_an_error_that_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(pl.exceptions.ComputeError, match="offsets"), contained():
        os.write(2, b"stack backtrace: ...\n")
        raise pl.exceptions.PanicException("offsets beyond the file")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_other_errors_pass_and_the_stream_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), contained():
        raise KeyError("x")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with contained():
            inside.set()
            go_on.wait(PATIENCE_S)

    def second() -> None:
        with contained():
            os.write(2, b"hidden\n")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(PATIENCE_S)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
