"""keep_freed_memory: freed arrays are reused, whatever the process was told before."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from aisp_trace.traces.heap import keep_freed_memory

BLOCKS, BLOCK_BYTES, PAGE_BYTES = 4, 8 << 20, os.sysconf("SC_PAGE_SIZE")
ITERATION_PAGES = BLOCKS * BLOCK_BYTES // PAGE_BYTES

PROGRAM = f"""
import resource, sys
from aisp_trace.traces.heap import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
elif sys.argv[1] == "kept up to":
    assert keep_freed_memory(1 << 30, one_arena=True)
old = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    old = [b"x" * {BLOCK_BYTES} for _ in range({BLOCKS})]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> list[int]:
    """Page faults in each of ten iterations that make new blocks before the old ones die."""
    # Blocks of this size would otherwise be mapped, or not, as glibc's moving threshold has it.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, how], env=environment, capture_output=True, text=True, check=True
    )
    return [int(line) for line in answer.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_is_kept_is_not_faulted_in_again() -> None:
    assert min(faults("left")) >= ITERATION_PAGES  # every iteration, or the case shows nothing
    assert sum(faults("kept")[5:]) < ITERATION_PAGES // 10
    assert sum(faults("kept up to")[5:]) < ITERATION_PAGES // 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert keep_freed_memory() is False
