"""The wire format, against the encodings of its documentation and against a decoder written here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.report.export.wire import constant, encode, fixed64, message, nested, text, uint, varint

Field = tuple[int, int | bytes]


def decoded(data: bytes) -> list[Field]:
    """(field, value) of a message; of delimited fields the bytes, of others the number."""
    out: list[Field] = []
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            out.append((key >> 3, number()))
        elif key & 7 == 1:
            out.append((key >> 3, int.from_bytes(data[at : at + 8], "little")))
            at += 8
        else:
            assert key & 7 == 2
            length = number()
            out.append((key >> 3, data[at : at + length]))
            assert at + length <= len(data)
            at += length
    return out


def test_the_examples_of_the_documentation() -> None:
    """https://protobuf.dev/programming-guides/encoding/: field 1 = 150; field 2 = "testing"; a message around the first."""
    assert encode(varint(1, np.array([150]))) == bytes.fromhex("089601")
    assert text(2, "testing") == bytes.fromhex("120774657374696e67")
    assert encode(message(3, varint(1, np.array([150])))) == bytes.fromhex("1a03089601")
    assert encode(varint(1, np.array([-2]))) == bytes.fromhex("08feffffffffffffffff01")
    assert nested(3, uint(1, 150)) == bytes.fromhex("1a03089601")


def test_rows_differ_in_width_and_in_what_they_have() -> None:
    present = np.array([True, False, True])
    rows = message(
        1,
        varint(2, np.array([0, 128, 2**63 - 1])),
        fixed64(47, np.array([7, 8, 2**40]), present),
        message(4, constant(1, 9, 3), present=~present),
    )
    first, second, third = (decoded(bytes(value)) for _, value in decoded(encode(rows)) if isinstance(value, bytes))
    assert first == [(2, 0), (47, 7)]
    assert second == [(2, 128), (4, b"\x08\x09")]
    assert third == [(2, 2**63 - 1), (47, 2**40)]


def test_no_rows_are_no_bytes() -> None:
    assert encode(message(1, varint(2, np.array([], np.int64)), constant(3, 1, 0))) == b""


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.booleans()), max_size=20))
def test_numbers_come_back(values: list[tuple[int, bool]]) -> None:
    numbers = np.array([v for v, _ in values], np.int64)
    present = np.array([p for _, p in values], bool)
    messages = decoded(encode(message(1, varint(5, numbers, present), constant(6, 300, len(values)))))
    expected = [([(5, v % 2**64)] if p else []) + [(6, 300)] for v, p in values]
    assert [decoded(body) for _, body in messages if isinstance(body, bytes)] == expected


def test_the_official_library_reads_the_same() -> None:
    pytest.importorskip("perfetto", reason="the package perfetto (dev extra) is not installed")
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    at, value = np.array([0, 10**18]), np.array([-5, 2**62])
    event = message(11, constant(9, 4, 2), constant(11, 3, 2), varint(30, value), fixed64(47, np.array([1, 2**63 - 1])))
    ours = encode(message(1, varint(8, at), constant(10, 1, 2), event))
    trace = protos.Trace.FromString(ours)
    assert [p.timestamp for p in trace.packet] == [0, 10**18]
    assert [p.track_event.counter_value for p in trace.packet] == [-5, 2**62]
    assert [list(p.track_event.flow_ids) for p in trace.packet] == [[1], [2**63 - 1]]
    assert {p.track_event.type for p in trace.packet} == {protos.TrackEvent.TYPE_COUNTER}
    # Fields in the order of their numbers and shortest integers: byte for byte what the library itself would write.
    assert (
        trace.packet[0].SerializeToString()
        == encode(
            message(
                1,
                varint(8, at[:1]),
                constant(10, 1, 1),
                message(11, constant(9, 4, 1), constant(11, 3, 1), varint(30, value[:1]), fixed64(47, np.array([1]))),
            )
        )[2:]
    )
