"""Which processes a program forked without starting another program in them: the workers that recorders lose most easily.

A recorder gets into a process when it starts a program (exec). A worker that is only forked, as `multiprocessing` and
torch's DataLoader do on Linux, goes on with its parent's copy of the recorder, or without one. So the family of a running
program is looked at now and then, and what left nothing in the trace can be named.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, Self

INTERVAL_S: Final = 0.1
"""Between looks. One costs this process about a millisecond: of those that were met before only its own are read again."""


class Forks:
    """Watches the processes whose environment holds `variable` from entry to exit."""

    def __init__(self, variable: str) -> None:
        self._variable = variable.encode()
        self._stop = threading.Event()
        self._seen: dict[int, tuple[int, bytes]] = {}
        self._others: set[str] = set()
        self._strangers: set[str] = set()
        self._thread = threading.Thread(target=self._watch, name="forked processes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def pids(self) -> tuple[int, ...]:
        """Those that run their parent's program, in order; the recorder's own do not count."""
        return tuple(sorted(pid for pid, (parent, words) in list(self._seen.items()) if self._is_worker(parent, words)))

    @property
    def started(self) -> bool:
        """Whether a program runs that is not the recorder's."""
        return any(not _is_nsys(words) for _, words in list(self._seen.values()))

    def _is_worker(self, parent: int, words: bytes) -> bool:
        return not _is_nsys(words) and self._seen.get(parent, (0, b""))[1] == words

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Add those that live now; processes that end meanwhile are passed over."""
        found = {folder.name for folder in Path("/proc").glob("[0-9]*")}
        for name in found - self._others:
            folder = Path("/proc", name)
            try:
                if int(name) not in self._seen and self._variable not in (folder / "environ").read_bytes().split(b"\0"):
                    # One that is just being started has its parent's environment until its program runs.
                    (self._others if name in self._strangers else self._strangers).add(name)
                    continue
                # The name in brackets may hold anything; the parent's number is the second word after it.
                parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
                if words := (folder / "cmdline").read_bytes():  # empty: it has ended, and nobody has asked how
                    self._seen[int(name)] = parent, words
            except (OSError, ValueError, IndexError):
                self._others.add(name)  # another user's, or gone
        self._others &= found
        self._strangers &= found


def _is_nsys(words: bytes) -> bool:
    return words.split(b"\0", 1)[0].rpartition(b"/")[2].startswith(b"nsys")
