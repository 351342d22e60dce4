"""What a program of the user's own says about itself while it is timed: a file of JSON lines.

    {"pid": 4711, "iteration": [81233000111, 81245000222], "measured": true}
    {"pid": 4711, "work": {"items": 4096, "unit": "tokens", "output": "loss 2.3185"}}
    {"pid": 4711, "step": 81245000222}

`aisp-trace capture --baseline ... --optimized ...` names the file in the variable ``AISP_TRACE_ANSWER``; unset, nothing is
written. `capture.stages.iteration` writes the first kind of line, after the iteration has ended, so that writing is not
timed; `state_work` the second. The third is the end of a training step, of programs that do nothing for it (``step_times.py``);
where steps cannot be timed it is ``"steps_lost": "why"``. A program in another language appends the same lines itself, with
CLOCK_MONOTONIC nanoseconds.

Nothing here synchronises a device. An iteration that does not wait for its device at its end times what the host did.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from ..traces.documents import ANSWER as ANSWER_KIND
from ..traces.documents import ANSWER_LINE, parse, read_text
from ..traces.errors import InputError, UsageError, WorkloadError
from ..traces.run import CommandAnswer, Statement

ANSWER_VARIABLE: Final = "AISP_TRACE_ANSWER"
ANSWER: Final = "answer.jsonl"

MOST_WORDS: Final = 200
"""Characters of a reason that are kept."""

Range = AbstractContextManager[object]


def state_work(items: int, unit: str, output: str | None = None) -> None:
    """Say what this program does in one timed unit: in each iteration where it opens `iteration()`, else as a whole.

    `output` is a digest or short text of the result (the tokens' hash, the loss to four digits); it must be exactly the
    same for all variants. `check` refuses to judge times of commands whose statements differ. Call it from one process,
    at any time. Raises `UsageError` for no items, no unit, or an output longer than 1,000 characters.
    """
    if isinstance(items, bool) or not isinstance(items, int) or items <= 0:
        raise UsageError(f"state_work got {items!r} items; give a whole number above 0")
    if not unit or (output is not None and len(output) > 1000):
        raise UsageError("state_work needs a unit, and an output of at most 1,000 characters: give a digest of it")
    if path := os.environ.get(ANSWER_VARIABLE):
        _append(path, {"work": {"items": items, "unit": unit, "output": output}})


class AnswerFile:
    """Writes the iterations of this process into the file `path`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._measured = 0

    def iteration(self, inner: Range) -> Range:
        """`inner`, timed from after it is opened until before it is closed; one that raises is not written."""
        return _Around(inner, time.perf_counter_ns, self._write)

    def measured(self, inner: Range) -> Range:
        """`inner`; iterations in it are the measured ones, and those outside it warm up."""
        return _Around(inner, self._begin, self._end)

    def _write(self, start_ns: int, failed: bool) -> None:
        end_ns = time.perf_counter_ns()
        if not failed:
            _append(self._path, {"iteration": [start_ns, end_ns], "measured": self._measured > 0})

    def _begin(self) -> int:
        self._measured += 1
        return 0

    def _end(self, _: int, failed: bool) -> None:
        self._measured -= 1


class _Around:
    """Inside `inner`: `before`, the body, then `after` with what `before` gave and whether the body raised."""

    __slots__ = ("_after", "_before", "_given", "_inner")

    def __init__(self, inner: Range, before: Callable[[], int], after: Callable[[int, bool], None]) -> None:
        self._inner, self._before, self._after = inner, before, after

    def __enter__(self) -> None:
        self._inner.__enter__()
        self._given = self._before()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._after(self._given, kind is not None)
        self._inner.__exit__(kind, value, traceback)
        return False


_lock = threading.Lock()


def _append(path: str, line: dict[str, Any]) -> None:
    """One write of one line: lines of several processes and threads do not mix, and a process that dies leaves its own."""
    data = (json.dumps({"pid": os.getpid(), **line}) + "\n").encode()
    with _lock:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, data)
        finally:
            os.close(file)


def read_answer(file: Path, who: str, *, iterations: bool = True) -> CommandAnswer:
    """What the processes of one command wrote into `file`; empty if they wrote nothing. `iterations` false: only statements.

    Iterations outside `measured()` are left out where there is any inside. Several processes (the ranks of one job) iterate
    together: the k-th iteration lasts from its first start to its last end, and the k-th step ends where the last rank's does.
    The first step of a process, which loads and warms up, only says where the second begins. Raises `WorkloadError`, which
    calls the command `who`, for lines of another form, iterations that overlap in one process, and ranks that disagree on their
    number of iterations.
    """
    try:
        lines = read_text(file, ANSWER_KIND).split("\n") if file.exists() else []
    except InputError as exc:
        raise WorkloadError(f"what {who} wrote to {ANSWER_VARIABLE} cannot be read: {exc}") from exc
    ranges: dict[int, list[tuple[int, int, bool]]] = {}
    ends: dict[int, list[int]] = {}
    lost = ""
    stated: list[Statement] = []
    for number, line in enumerate(lines, 1):
        if not line and number == len(lines):
            break  # behind the last line's end
        pid, found = _parse(line, f"line {number} of what {who} wrote to {ANSWER_VARIABLE}")
        if isinstance(found, Statement):
            stated += [found] if found not in stated else []
        elif isinstance(found, int):
            ends.setdefault(pid, []).append(found)
        elif isinstance(found, str):
            lost = lost or found
        else:
            ranges.setdefault(pid, []).append(found)
    lost = lost or _no_job(ends)
    return CommandAnswer(
        iterations_ns=_iterations(ranges, who) if iterations else (),
        stated=tuple(stated),
        steps_ns=_steps(ends) if iterations and not lost else (),
        steps_lost=lost if iterations else "",
    )


def _parse(line: str, where: str) -> tuple[int, tuple[int, int, bool] | Statement | int | str]:
    try:
        data = parse(line, ANSWER_LINE, where)
    except InputError as exc:
        raise WorkloadError(f"{exc}; see `pydoc aisp_trace.capture.answer`") from exc
    match data:
        case {"pid": int(pid), "iteration": [int(start), int(end)], "measured": bool(measured)} if 0 <= start < end:
            return pid, (start, end, measured)
        case {"pid": int(pid), "work": {"items": int(items), "unit": str(unit), "output": str() | None as output}}:
            if items > 0:
                return pid, Statement(items, unit, output)
        case {"pid": int(pid), "step": int(end)} if end > 0:
            return pid, end
        case {"pid": int(pid), "steps_lost": str(why)} if why:
            return pid, why[:MOST_WORDS]
    raise WorkloadError(
        f"{where} is neither an iteration, a step nor a statement of work; see `pydoc aisp_trace.capture.answer`"
    )


def _iterations(ranges: dict[int, list[tuple[int, int, bool]]], who: str) -> tuple[int, ...]:
    gated = any(measured for found in ranges.values() for *_, measured in found)
    chosen = [sorted((s, e) for s, e, measured in found if measured or not gated) for found in ranges.values()]
    chosen = [found for found in chosen if found]
    for found in chosen:
        if any(later[0] < earlier[1] for earlier, later in pairwise(found)):
            raise WorkloadError(
                f"the iterations of {who} overlap; open one iteration() at a time, or take --timing processes"
            )
    counts = sorted({len(found) for found in chosen})
    if len(counts) > 1:
        raise WorkloadError(
            f"the processes of {who} timed {counts[0]} to {counts[-1]} iterations; all must time as many"
        )
    return tuple(max(e for _, e in each) - min(s for s, _ in each) for each in zip(*chosen, strict=True))


def _steps(ends: dict[int, list[int]]) -> tuple[int, ...]:
    """From each step's end to the next one's; of several ranks a step ends where its last one does."""
    last = [max(each) for each in zip(*map(sorted, ends.values()), strict=True)]
    return tuple(later - earlier for earlier, later in pairwise(last) if later > earlier)


def _no_job(ends: dict[int, list[int]]) -> str:
    """Why the processes that made steps are not the ranks of one job; empty where they are, or where there is one at most."""
    if len({len(found) for found in ends.values()}) > 1:
        return "several of its processes train, with different numbers of steps"
    if ends and max(map(min, ends.values())) >= min(map(max, ends.values())) and len(ends) > 1:
        return "several of its processes train, one after the other"
    return ""
