"""Memory of a process that runs what a model wrote: looked at several times a second, and ended beyond a limit.

The system's own limits do not serve: a CUDA driver reserves more address space than any machine has memory, and knows no
limit for a process. So the resident memory of the process and its children is added up, and of the device what is in use
beyond what was in use before; others on the same GPU count as well.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .evidence import Heard
from .limits import MemoryLimits
from .result import Reason

LOOK_S: Final = 0.1
"""Between two looks. What is taken and given back in between is not seen."""

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watching(heard: Heard, limits: MemoryLimits | None, device_used: Callable[[], int] | None) -> Iterator[None]:
    """Inside, the process that `heard` is about is killed where it exceeds `limits`, and the reason stands in ``heard.failure``.

    `device_used` answers the bytes in use on the device; null: nothing runs on one.
    """
    if limits is None:
        yield
        return
    over = threading.Event()
    before = device_used() if device_used is not None else 0

    def look() -> None:
        while not over.wait(LOOK_S):
            if heard.pid is None:
                continue
            host = resident_bytes(heard.pid)
            device = device_used() - before if device_used is not None else 0
            for what, found, most in (("host", host, limits.host_bytes), ("device", device, limits.device_bytes)):
                if found > most and not over.is_set():
                    text = f"took {found / 2**30:.1f} GiB of {what} memory, and {most / 2**30:.1f} are allowed"
                    heard.failure = heard.failure or Reason("memory", f"{text}, {heard.where}")
                    for pid in (*family(heard.pid), heard.pid):
                        with suppress(ProcessLookupError, PermissionError):
                            os.kill(pid, signal.SIGKILL)
                    return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def resident_bytes(pid: int) -> int:
    """Memory that the process and its descendants hold; pages that they share count for each."""
    total = 0
    for one in (pid, *family(pid)):
        with suppress(OSError, IndexError, ValueError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE_BYTES
    return total


def family(pid: int) -> list[int]:
    """The descendants of a process."""
    children: dict[int, list[int]] = defaultdict(list)
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            children[int(file.read_text().rpartition(")")[2].split()[1])].append(int(file.parent.name))
    found = list(children[pid])
    for one in found:  # grows while it is read
        found += children[one]
    return found
