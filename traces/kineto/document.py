"""The events of a torch.profiler trace, a few thousand at a time, however long the file is.

`export_chrome_trace` writes ``{"traceEvents": [...], ...}`` with complete events (phase X). Other tools of the Chrome format
write the bare list, may leave it open, and write each event as a pair of phases B and E.

    {"schemaVersion": 1, "traceEvents": [  {...}, {...}, {...}, | {...}, {...}, {...}, | {...}  ], "traceName": "..."}
    |---------------- head ------------|   |--- one window ---|                                 |------- tail -------|

A window ends where an event seems to: ``}, {``. If it is a valid list, it did, since it began at an event. If not, an event is
damaged, or the place lies within one: smaller windows are tried, and in the end that event is read by itself (`damaged`).
Head and tail make one document, of which the list is to be the empty member ``traceEvents``.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import msgspec
from msgspec import UNSET

from ..documents import TORCH, encoding_of, refuse, require_file
from ..errors import InputError
from .columns import label, nanoseconds
from .damaged import COMMAS, LOST, first_value, whole_document
from .events import SPELLING, Event, arguments, decode_events, event_of

_PART: Final = 4 << 20
"""Bytes that are read at once."""

_WIDEST: Final = 4 << 20
_NARROWEST: Final = 16 << 10
_NARROWER: Final = 16
"""Bytes of the widest and the narrowest window, and how much narrower the next is after a failure. An event has 200 to 800."""

_FEWEST: Final = 8_192
"""Events that are handed on together at least: single ones would cost more as columns than as text."""

_EVENT: Final = 16 << 10
_LONGEST_EVENT: Final = 256 << 20
"""Bytes in which the end of a single event is looked for, at first and at last."""

_LONGEST_HEAD: Final = 64 << 20
"""Bytes of the members before the list of events, and of those behind it: parsed, they take up to 20 times as much. torch's have
some 10 kB; the call stacks of other tools some megabytes."""

_MOST_STRANGERS: Final = 10_000
"""Values in the list of events that are none, each read by itself: 20 us of time a piece. A profiler writes none at all."""

_LIST: Final = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN: Final = re.compile(rb"[\s,]*")
_BACK: Final = 64
"""Braces before the end of a window that are looked at as the start of an event, and the bytes of space before one."""

_JAX: Final = re.compile(r"/(?:device|host):")
"""How JAX and TensorFlow name the processes of a trace: ``/device:GPU:0``, ``/host:CPU``."""


class Document:
    """One trace file. `batches` reads it once; `rest` and `odd` are whole after the last batch.

    `rest` has the members beside the events. `odd` counts events by what was repaired in them (`damaged`), those that were lost,
    pairs of phases that lack a part, and lists that are not closed.

    A long class because its methods are one pass over one file: each goes on where the one before it stopped.
    """

    def __init__(self, file: Path, named: Path) -> None:
        """The uncompressed `file`, which errors call `named`."""
        self._file, self._named, self._bare, self._width = file, named, False, _WIDEST
        self._strangers = 0
        self.odd: Counter[str] = Counter()
        self.rest: dict[str, Any] = {}

    def batches(self) -> Iterator[list[Event]]:
        """All events in the order of the file, but for pairs of phases B and E, which come last, as complete events.

        Raises `InputError` for a document that has no events, is not complete, or belongs to another profiler.
        """
        marks, some, shown = list[Event](), list[Event](), _Shown()
        try:
            for events in self._decoded():
                shown.look_at(events)
                if any(event.ph == "B" or event.ph == "E" for event in events):
                    marks += [event for event in events if event.ph in ("B", "E")]
                    events = [event for event in events if event.ph not in ("B", "E")]
                some += events
                if len(some) >= _FEWEST:
                    yield some
                    some = []
        except RecursionError:
            refuse(str(self._named), TORCH, "it nests too deeply")
        except MemoryError as exc:
            refuse(str(self._named), TORCH, "this machine has too little memory for it", exc)
        shown.require_torch(self._named, self._bare)
        yield [*some, *_paired(marks, self.odd)]

    def _decoded(self) -> Iterator[list[Event]]:
        require_file(self._file, TORCH)
        with self._file.open("rb") as stream:
            text = _Text(stream)
            head = self._head(text)
            self._bare = not head
            yield from self._list(text)
            text.fill(_LONGEST_HEAD + 1)
            tail = text.data[text.at :]
            if len(tail) > _LONGEST_HEAD:
                self._too_much_beside()
        if self._bare:
            if tail[1:].strip():
                self._incomplete("it goes on after its list of events")
            return
        try:
            document, repaired = whole_document(head + tail)
        except ValueError as exc:
            self._incomplete(str(exc))
        events = document.pop("traceEvents", None) if isinstance(document, dict) else None
        if events is None:
            raise _no_list(self._named)
        if events:
            refuse(str(self._named), TORCH, "it has two lists `traceEvents`")
        self.odd["members_mended"] += bool(repaired)
        self.rest = document

    def _head(self, text: _Text) -> bytes:
        """What comes before the first event, with the bracket; nothing for a bare list."""
        reach = 256
        while True:
            text.fill(reach)
            if text.data.lstrip()[:1] == b"[":
                text.at = text.data.index(b"[") + 1
                return b""
            if found := _LIST.search(text.data):
                text.at = found.end()
                return text.data[: found.end()]
            if reach > min(len(text.data), _LONGEST_HEAD):
                break
            reach = min(max(2 * reach, _PART), _LONGEST_HEAD + 1)
        if len(text.data) > _LONGEST_HEAD:
            self._too_much_beside()
        try:
            whole_document(text.data)
        except ValueError as exc:
            self._incomplete(str(exc))
        raise _no_list(self._named)

    def _list(self, text: _Text) -> Iterator[list[Event]]:
        commas = 0
        while self._at_event(text, commas):
            yield self._next(text)
            commas = 1

    def _next(self, text: _Text) -> list[Event]:
        """The events of the next window, or the next one alone."""
        while end := text.event_end(self._width):
            try:
                events = decode_events(b"[" + text.data[text.at : end] + b"]")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                if self._width == _NARROWEST:
                    break
                self._width = max(self._width // _NARROWER, _NARROWEST)
            else:
                text.at = end
                self._width = min(self._width * 4, _WIDEST)
                return events
        return self._alone(text)

    def _at_event(self, text: _Text, commas: int) -> bool:
        """Go to the next event, before which there should be so many commas; whether there is one."""
        while text.only(_BETWEEN) and text.more():
            pass
        gap = _BETWEEN.match(text.data, text.at)
        text.at = len(text.data) if gap is None else gap.end()
        if text.at < len(text.data):
            goes_on = text.data[text.at : text.at + 1] != b"]"
            self.odd[COMMAS] += gap is not None and gap[0].count(b",") != (commas if goes_on else 0)
            return goes_on
        if not self._bare:
            self._incomplete("its list of events is not closed")
        self.odd["lists_not_closed"] += 1
        return False

    def _alone(self, text: _Text) -> list[Event]:
        """The event at this place, read and repaired by itself; nothing if it is lost or none."""
        found, reach, more = None, _EVENT, True
        while found is None and more:
            text.fill(reach)
            more = text.left >= reach and reach < _LONGEST_EVENT
            found = first_value(text.data[text.at : text.at + reach], more=more)
            reach *= 8
        if found is None:
            self._incomplete(f"no whole event begins at byte {text.offset:,}")
        text.at += found.length
        if LOST in found.repaired:
            self.odd[LOST] += 1
            return []
        if found.repaired:
            self.odd.update(("events_mended", *found.repaired))
        if isinstance(found.value, dict):
            return [event_of(found.value)]
        self._strangers += 1
        if self._strangers > _MOST_STRANGERS:
            refuse(str(self._named), TORCH, f"more than {_MOST_STRANGERS:,} entries of its list are not events")
        return []

    def _too_much_beside(self) -> NoReturn:
        refuse(
            str(self._named),
            replace(TORCH, remedy="leave out its other members"),
            f"it has more than {_LONGEST_HEAD:,} bytes beside its list of events",
        )

    def _incomplete(self, why: str) -> NoReturn:
        raise InputError(
            f"{self._named} cannot be read as {TORCH.what}: it is not complete JSON ({why}); record it again"
        )


def _no_list(named: Path) -> InputError:
    return InputError(
        f"{named} cannot be read as a torch.profiler trace: this JSON has no list `traceEvents`; "
        "give the file that `export_chrome_trace` wrote"
    )


class _Text:
    """A file as UTF-8 without a byte order mark: the bytes from `at` on, as far as they were asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        start = stream.read(4)
        self._parts = _parts(stream, start, encoding_of(start))
        self.data, self.at, self._passed = b"", 0, 0
        self.more()

    def more(self) -> bool:
        """Read on; whether there was more."""
        part = next(self._parts, b"")
        if part:
            self._passed += self.at
            self.data, self.at = self.data[self.at :] + part, 0
        return bool(part)

    def fill(self, length: int) -> None:
        """Have as many bytes from `at` on, or all that there are."""
        if self.left >= length:
            return
        parts = [self.data[self.at :]]
        have = len(parts[0])
        while have < length and (part := next(self._parts, b"")):
            parts.append(part)
            have += len(part)
        if len(parts) > 1:
            self._passed += self.at
            self.data, self.at = b"".join(parts), 0

    @property
    def offset(self) -> int:
        """The bytes before `at`."""
        return self._passed + self.at

    def only(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether all that has been read matches `pattern`."""
        return pattern.fullmatch(self.data, self.at) is not None

    @property
    def left(self) -> int:
        """Bytes from `at` on that have been read."""
        return len(self.data) - self.at

    def event_end(self, width: int) -> int:
        """Where the last event that seems to end within `width` bytes ends; 0 if none does."""
        self.fill(width)
        stop = self.at + width
        for _ in range(_BACK):
            brace = self.data.rfind(b"{", self.at, stop)
            if brace <= self.at:
                return 0
            before = self.data[max(self.at, brace - _BACK) : brace].rstrip()
            if before.endswith(b",") and before[:-1].rstrip().endswith(b"}"):
                return self.data.rindex(b"}", self.at, brace) + 1
            stop = brace
        return 0


def _parts(stream: BinaryIO, start: bytes, encoding: str) -> Iterator[bytes]:
    if encoding.startswith("utf-8"):
        yield start.removeprefix(codecs.BOM_UTF8)
        while part := stream.read(_PART):
            yield part
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    part = start
    while part:
        yield decoder.decode(part).removeprefix("\ufeff").encode() or b" "
        part = stream.read(_PART)
    yield decoder.decode(b"", final=True).encode()


class _Shown:
    """What the events of a file show of who wrote it."""

    def __init__(self) -> None:
        self._events = self._categories = self._jax = False

    def look_at(self, events: list[Event]) -> None:
        for event in events:
            phase = event.ph
            self._events |= phase is not None
            if phase == "X":
                self._categories |= event.cat is not None
            elif phase == "M" and event.name == "process_name":
                self._jax |= _JAX.match(label(arguments(event).name)) is not None

    def require_torch(self, named: Path, bare: bool) -> None:
        """Raise `InputError` for a bare list of something else than events, and for events of JAX or TensorFlow.

        XLA's profiler gives no complete event a category; torch's gives all of them one.
        """
        if bare and not self._events:
            raise _no_list(named)
        if self._jax and not self._categories:
            raise InputError(
                f"{named} cannot be read as a torch.profiler trace: it is one of JAX or TensorFlow, which are not read "
                "here; record the program with `nsys profile --trace=cuda,nvtx` instead"
            )


def _paired(marks: list[Event], odd: Counter[str]) -> list[Event]:
    """A complete event for each pair of a begin and an end; these nest by process and thread."""
    times = nanoseconds([e.ts for e in marks]).to_list()
    odd["events_without_time"] += times.count(None)
    timed = [(time, e) for time, e in zip(times, marks, strict=True) if time is not None]
    lanes: dict[tuple[str, str], list[tuple[int, Event]]] = {}
    out = []
    for time, event in sorted(timed, key=lambda one: one[0]):
        lane = lanes.setdefault((label(event.pid), label(event.tid)), [])
        if event.ph == "B":
            lane.append((time, event))
        elif lane:
            start, begun = lane.pop(_ended_by(event, [e for _, e in lane]))
            out.append(_joined(begun, event, time - start))
        else:
            odd["events_never_begun"] += 1
    odd["events_never_ended"] += sum(map(len, lanes.values()))
    return out


def _joined(begun: Event, ended: Event, nanoseconds_held: int) -> Event:
    """One complete event; what the end says of an argument counts."""
    first, last = arguments(begun), arguments(ended)
    args = {field: getattr(last, field) for field in SPELLING if getattr(last, field) not in (None, UNSET)}
    microseconds, rest = divmod(nanoseconds_held, 1000)
    return msgspec.structs.replace(
        begun, ph="X", dur=f"{microseconds}.{rest:03d}", args=msgspec.structs.replace(first, **args)
    )


def _ended_by(end: Event, lane: list[Event]) -> int:
    """Which of the open events `end` belongs to: the innermost of its name, if it has one, else the innermost."""
    same = [i for i, begun in enumerate(lane) if end.name is None or begun.name == end.name]
    return same[-1] if same else len(lane) - 1
