"""A program's output on its way: shown as it comes, and kept in a file of bounded size.

    program -- pipe --> Passed -- as it comes --> the terminal
                               -- first and last 4 MiB --> traced.stdout.log

What is shown is raw bytes, so that progress bars and colours arrive. A recorder that relays the program's output puts lines
of its own between, which are kept and not shown.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

KEPT_BYTES: Final = 4 * 1024 * 1024
"""Of the beginning and of the end of each stream: enough for any traceback, and a chatty program fills no disk."""

CHUNK: Final = 64 * 1024
UNDECIDED: Final = 16 * 1024
"""Bytes of a line after which it is not a recorder's own, whatever it begins with; the longest are progress bars."""


@dataclass(frozen=True, slots=True)
class OwnLines:
    """The lines of a recorder: each begins with one of `begins` and, as far as it goes, matches `line`."""

    begins: tuple[bytes, ...]
    line: re.Pattern[bytes]

    def undecided(self, part: bytes) -> bool:
        """Whether a line of which only `part` has come may still be one."""
        return len(part) < UNDECIDED and any(one.startswith(part[: len(one)]) for one in self.begins)


class Bounded:
    """A log file that holds the first and the last `limit` bytes of what is written; between them it says how many it lacks."""

    def __init__(self, path: Path, limit: int = KEPT_BYTES) -> None:
        self._file = path.open("wb", buffering=0)
        self._limit = limit
        self._head = 0
        self._tail: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0

    def write(self, data: bytes) -> None:
        """Keep `data`, at once if it is of the beginning, else when the file is closed."""
        room = self._limit - self._head
        if room > 0:
            self._file.write(data[:room])
            self._head += len(data[:room])
            data = data[room:]
        if data:
            self._tail.append(data)
            self._held += len(data)
            while self._held - len(self._tail[0]) >= self._limit:
                gone = len(self._tail.popleft())
                self._held -= gone
                self._dropped += gone

    def close(self) -> None:
        """Write the end."""
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes are left out ...]\n".encode())
        for part in self._tail:
            self._file.write(part)
        self._file.close()


class Passed:
    """One stream of a program, read by a thread of its own until all who may write to it have closed it.

    `shown` gets what is read (null: nobody) but for `own` lines. A reader that has left, such as ``head``, ends the showing and
    not the program.
    """

    def __init__(self, log: Path, shown: IO[bytes] | None, own: OwnLines | None = None) -> None:
        self._log = Bounded(log)
        self._shown = shown
        self._own = own
        self._held = b""
        self._inside = False  # a line whose beginning was shown
        self.read_end, self.write_end = os.pipe()
        self._thread = threading.Thread(target=self._pump, name=f"output to {log.name}", daemon=True)

    def start(self) -> None:
        """Begin to read; the program has been given `write_end`, which is closed here."""
        os.close(self.write_end)
        self.write_end = -1
        self._thread.start()

    def finish(self, patience_s: float) -> None:
        """Wait until everything was read, at most `patience_s` seconds for processes that outlive the program."""
        if self.write_end >= 0:  # the program was never started
            os.close(self.write_end)
        if self._thread.ident is not None:
            self._thread.join(patience_s)
        if not self._thread.is_alive():
            os.close(self.read_end)
        self._log.close()

    def _pump(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the log was closed, since nobody waits any more
            while data := os.read(self.read_end, CHUNK):
                self._log.write(data)
                self._show(data)
        self._show(b"", last=True)

    def _show(self, data: bytes, *, last: bool = False) -> None:
        """Pass `data` on. A line that may still turn out to be the recorder's is held until that is decided."""
        if self._shown is None or self._own is None:
            self._put(data)
            return
        *lines, part = (self._held + data).split(b"\n")
        self._held = b""
        passed = []
        for line in lines:
            if self._inside or not self._own.line.match(line):
                passed.append(line + b"\n")
            self._inside = False
        if part and (self._inside or last or not self._own.undecided(part)):
            if not (last and self._own.line.match(part)):
                passed.append(part)
            self._inside = True
        else:
            self._held = part
        self._put(b"".join(passed))

    def _put(self, data: bytes) -> None:
        if self._shown is None or not data:
            return
        try:
            self._shown.write(data)
            self._shown.flush()
        except (OSError, ValueError):
            self._shown = None
