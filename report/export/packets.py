"""A Perfetto trace as a stream of packets: tracks, slices, counters and flows, written as they come.

Messages and field numbers, from Perfetto's protos (https://github.com/google/perfetto/tree/main/protos/perfetto/trace):

    Trace                packet 1
    TracePacket          timestamp 8, trusted_packet_sequence_id 10, track_event 11, interned_data 12, sequence_flags 13,
                         track_descriptor 60, first_packet_on_sequence 87
    TrackDescriptor      uuid 1, name 2, process 3, thread 4, parent_uuid 5, counter 8, child_ordering 11,
                         sibling_order_rank 12
    ProcessDescriptor    pid 1, process_name 6          ThreadDescriptor   pid 1, tid 2, thread_name 5
    CounterDescriptor    unit 3, unit_name 6
    TrackEvent           category_iids 3, debug_annotations 4, type 9, name_iid 10, track_uuid 11, counter_value 30,
                         flow_ids 47, terminating_flow_ids 48
    DebugAnnotation      name_iid 1, int_value 4, string_value_iid 17
    InternedData         event_categories 1, event_names 2, debug_annotation_names 3, debug_annotation_string_values 29
    interned entries     iid 1, name (or str) 2

All packets form one sequence. A name is written once, before the first event that uses it. Events may come in any order
of time between tracks (the reader sorts), but within one instant of one track in the order in which they happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...analyze.intervals import Ints
from ...traces.model import distinct_values
from .lanes import lanes, order
from .wire import constant, encode, fixed64, message, nested, text, uint, varint

LONGEST_NAME: Final = 8000
"""Characters of a recorded name that are kept: all of a demangled kernel name, little of a hostile one."""

CHUNK: Final = 1 << 15
"""Events encoded at once: about 10 MB of working memory."""

SLICE_BEGIN, SLICE_END, COUNTER = 1, 2, 4  # TrackEvent.Type
CLEARED, NEEDED = 1, 2  # TracePacket.SequenceFlags
EXPLICIT: Final = 3  # TrackDescriptor.ChildTracksOrdering
BYTES: Final = 3  # CounterDescriptor.Unit: UNIT_SIZE_BYTES
SEQUENCE: Final = 1

FIRST: Final = nested(1, uint(13, CLEARED), uint(87, 1), uint(10, SEQUENCE))
"""What every trace written here begins with, and other writers' do not."""

CATEGORIES, NAMES, ARG_NAMES, ARG_TEXTS = 1, 2, 3, 29  # fields of InternedData

Progress = Callable[[int], None]
"""Told now and then how many events are written."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One detail of each slice: numbers, or positions of interned texts (`is_text`); shown where `present`."""

    name: str
    values: Ints
    present: npt.NDArray[np.bool_]
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices of one track, in any order. `name` and `category` are interned; `flow` is 0 where there is none."""

    start: Ints
    end: Ints
    name: Ints
    category: Ints
    flow: Ints
    args: Sequence[Arg] = ()

    def take(self, rows: npt.NDArray[np.intp]) -> Slices:
        """The slices at positions `rows`."""
        args = [Arg(a.name, a.values[rows], a.present[rows], a.is_text) for a in self.args]
        return Slices(self.start[rows], self.end[rows], self.name[rows], self.category[rows], self.flow[rows], args)


@dataclass
class Packets:
    """Writes packets to `out`. Times are `origin_ns` later in the recording than in the file (0 unless some are negative)."""

    out: IO[bytes]
    origin_ns: int = 0
    progress: Progress | None = None
    events: int = 0
    _tracks: int = 0
    _interned: dict[int, dict[str, int]] = field(default_factory=dict)
    _new: list[bytes] = field(default_factory=list)

    def begin(self) -> None:
        """The first packet: what this sequence interns starts here."""
        self.out.write(FIRST)

    def process(self, pid: int, name: str) -> int:
        """A process's track; its uuid."""
        return self._track(nested(3, uint(1, pid), text(6, label(name))))

    def thread(self, pid: int, tid: int, name: str) -> int:
        """A thread's track; its uuid. The process must have one."""
        return self._track(nested(4, uint(1, pid), uint(2, tid), text(5, label(name))))

    def group(self, name: str) -> int:
        """A track whose children are shown in the order in which they were made; its uuid."""
        return self._track(text(2, label(name)), uint(11, EXPLICIT))

    def child(self, parent: int, name: str) -> int:
        """A track of slices below `parent`."""
        return self._track(text(2, label(name)), uint(5, parent), uint(12, self._tracks))

    def counter_track(self, parent: int, name: str, unit: str = "") -> int:
        """A track of numbers below `parent`; `unit` ``bytes`` is scaled by the viewer, others are shown as they are."""
        described = uint(3, BYTES) if unit == "bytes" else text(6, unit) if unit else b""
        return self._track(text(2, label(name)), uint(5, parent), uint(12, self._tracks), nested(8, described))

    def intern(self, kind: int, value: str) -> int:
        """The position of `value` among the interned strings of `kind`, from 1."""
        known = self._interned.setdefault(kind, {})
        value = label(value)
        if value not in known:
            known[value] = len(known) + 1
            self._new.append(nested(kind, uint(1, known[value]), text(2, value)))
            if len(self._new) >= 1024:
                self._flush()
        return known[value]

    def intern_column(self, kind: int, column: pl.Series) -> Ints:
        """Positions for a text column; 0 for null."""
        if not isinstance(column.dtype, pl.Enum):
            column = column.cast(pl.String)
            column = column.cast(pl.Enum(column.drop_nulls().unique(maintain_order=True)))
        values = distinct_values(column)
        codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        positions = np.zeros(len(values) + 1, np.int64)  # the last one, reached by -1, stays 0
        for code in np.unique(codes[codes >= 0]).tolist():
            positions[code] = self.intern(kind, values[code])
        found: Ints = positions[codes]
        return found

    def slices(self, track: int, name: str, slices: Slices, *, nest: bool, arrives: bool = False) -> None:
        """Write `slices` to `track`; those that cross go to further tracks below it, called ``name (overlap 2)``.

        `nest`: slices inside each other share a track. `arrives`: flows end here, instead of starting.
        """
        slices = slices.take(order(slices.start, slices.end))
        for lane, events in enumerate(lanes(slices.start, slices.end, nest=nest)):
            uuid = track if lane == 0 else self.child(track, f"{name} (overlap {lane + 1})")
            for low in range(0, len(events), CHUNK):
                self._slice_events(uuid, slices, events[low : low + CHUNK], 48 if arrives else 47)

    def counter(self, track: int, time: Ints, value: Ints) -> None:
        """Write the values of a counter track; each holds until the next."""
        self._flush()
        for low in range(0, len(time), CHUNK):
            at, now = time[low : low + CHUNK], value[low : low + CHUNK]
            n = len(at)
            event = message(11, constant(9, COUNTER, n), constant(11, track, n), varint(30, now))
            self._events(at, event)

    def _slice_events(self, track: int, slices: Slices, events: Ints, flow_field: int) -> None:
        begins = events >= 0
        row = np.where(begins, events, ~events)
        n = len(events)
        parts = [
            varint(9, np.where(begins, SLICE_BEGIN, SLICE_END)),
            constant(11, track, n),
            varint(3, slices.category[row], begins),
            varint(10, slices.name[row], begins),
        ]
        for arg in slices.args:
            present = begins & arg.present[row]
            if present.any():
                name = constant(1, self.intern(ARG_NAMES, arg.name), n)
                value = varint(17 if arg.is_text else 4, arg.values[row])
                parts.append(message(4, name, value, present=present))
        flow = slices.flow[row]
        if flow.any():
            parts.append(fixed64(flow_field, flow, begins & (flow > 0)))
        self._flush()
        self._events(np.where(begins, slices.start[row], slices.end[row]), message(11, *parts))

    def _events(self, time: Ints, event: Any) -> None:
        n = len(time)
        packet = message(1, varint(8, time - self.origin_ns), event, constant(10, SEQUENCE, n), constant(13, NEEDED, n))
        self.out.write(encode(packet))
        self.events += n
        if self.progress is not None:
            self.progress(self.events)

    def _track(self, *content: bytes) -> int:
        self._tracks += 1
        self._packet(nested(60, uint(1, self._tracks), *content))
        return self._tracks

    def _flush(self) -> None:
        if self._new:
            self._packet(nested(12, *self._new), uint(13, NEEDED))
            self._new.clear()

    def _packet(self, *content: bytes) -> None:
        self.out.write(nested(1, *content, uint(10, SEQUENCE)))


def label(name: str) -> str:
    """`name` without control characters (they become ``\\u001b``) and with its middle cut out if it is very long."""
    if len(name) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        name = f"{name[:half]}…{name[-half + 1 :]}"
    if not name.isprintable():
        name = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name)
    return name or "(no name)"
