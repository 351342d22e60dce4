"""What a command costs as a fresh process: wall time, processor time, peak memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds and bytes of one process and of the children it waited for; `said` is its last line on stderr."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    exit_code: int
    output: str
    said: str


def measure(command: Sequence[str], environment: Mapping[str, str], timeout_s: float = 1_800) -> Cost:
    """Run `command` to its end; one that outlasts `timeout_s` is killed and has a negative exit code.

    `peak_bytes` is the kernel's own high-water mark of the resident set, anonymous and file pages together. It can
    never be less than this process's own, which is why nothing large may be imported here. `output` and `said` come
    from the last 100 kB.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment))
        timer = threading.Timer(timeout_s, process.kill)
        timer.daemon = True
        timer.start()
        # wait4 alone tells the usage of this child and of no other.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(max(0, file.seek(0, os.SEEK_END) - 100_000))
            texts.append(file.read().decode(errors="replace"))
    said = texts[1].strip().splitlines()
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(wall, cpu_s, usage.ru_maxrss * 1024, process.returncode, texts[0], said[-1] if said else "")
