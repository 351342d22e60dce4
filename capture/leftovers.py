"""Programs of a capture that was killed and could not end them, named before anything is timed beside them.

Every process that ``capture`` starts carries a variable that says by which process, so that it can be told from all others
for as long as it runs, whoever has its parent's number by then:

    AISP_TRACE_PROCESS=<random>.<pid of the capture>.<when that started>.<its PID namespace>
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKER: Final = "AISP_TRACE_PROCESS"

NAMED: Final = 5
"""Programs that a sentence names."""

SHOWN: Final = 60
"""Characters of a command line that are shown."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A living process whose capture is gone."""

    pid: int
    command: str


def new_marker() -> str:
    """The variable's value for a program that this process starts."""
    pid = os.getpid()
    return f"{uuid.uuid4().hex}.{pid}.{_started(pid)}.{_namespace()}"


def marked(marker: str) -> list[int]:
    """Ids of the living processes that carry exactly this value; empty where there is no /proc."""
    return [pid for pid, value in _carriers() if value == marker]


def leftovers() -> list[Leftover]:
    """The living processes that were started by a capture which has ended, in order of their ids.

    Only those of this PID namespace: in another one numbers mean other processes.
    """
    found = []
    for pid, value in _carriers():
        _, capture, started, namespace = value.split(".") if value.count(".") == 3 else ("", "", "", "")
        if pid == os.getpid() or namespace != _namespace():
            continue
        if capture.isdigit() and _started(int(capture)) != started and _started(pid):
            found.append(Leftover(pid, _command(pid)))
    return sorted(found, key=lambda one: one.pid)


def after_grace(grace_s: float) -> list[Leftover]:
    """`leftovers` that are still there after `grace_s`, which those have that are being ended just now."""
    deadline = time.monotonic() + grace_s
    while (found := leftovers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def sentence(found: Sequence[Leftover]) -> str:
    """That they run, and how to end them."""
    named = ", ".join(f"{one.pid} `{one.command}`" for one in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    one = len(found) == 1
    return (
        f"{len(found)} process{'' if one else 'es'} of a capture that was killed still run{'s' if one else ''}: "
        f"{named}{more}; end {'it' if one else 'them'} with `kill {' '.join(str(each.pid) for each in found)}`"
    )


def _carriers() -> Iterator[tuple[int, str]]:
    """(process id, value) of all that carry the variable."""
    wanted = f"{MARKER}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at, and other users' environments cannot be read.
        with contextlib.suppress(OSError):
            for one in (entry / "environ").read_bytes().split(b"\0"):
                if one.startswith(wanted):
                    yield int(entry.name), one.removeprefix(wanted).decode(errors="replace")


def _stat(pid: int) -> list[str]:
    """The words of a process's state after its name, which may hold anything; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return []


def _started(pid: int) -> str:
    """When a process started, in clock ticks since the machine did (proc(5), field 22); empty if it has ended."""
    words = _stat(pid)
    return words[19] if len(words) > 19 and words[0] not in "ZX" else ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink()).removeprefix("pid:[").removesuffix("]")
    except OSError:
        return ""


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        words = []
    text = shlex.join(words).translate(_PLAIN)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


_PLAIN: Final = dict.fromkeys([*range(32), 127, *range(128, 160)], "?")
"""A command line may hold anything; a terminal is not to obey it."""
