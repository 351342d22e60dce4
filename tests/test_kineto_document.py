"""Torch traces of any form and damage, read a window at a time: every event once, or a refusal, and never a wrong sum."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import pytest

from aisp_trace.tests.builders.samples import SAMPLES
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.kineto import document
from aisp_trace.traces.kineto.document import Document
from aisp_trace.traces.kineto.events import Event
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.repairs import repairs
from aisp_trace.traces.unpack import unpack

EVENTS = 60
NAMES = ("gemm<float, 4>", "a [b] {c}", "}, {", '"], "x": [', "\\", "\N{GREEK SMALL LETTER ALPHA}", "k" * 300)


def kernels(random: Random, count: int = EVENTS) -> list[dict[str, Any]]:
    """Kernels of torch's own layout, each with a duration of its own: a power of two is missing from a sum or it is not."""
    return [
        {
            "ph": "X", "cat": "kernel", "name": random.choice(NAMES), "pid": 0, "tid": 7, "ts": 10 * i, "dur": 1 + i % 5,
            "args": {"device": 0, "stream": 7, "shapes": [{"a": [1, {}]}, {"b": "}, {"}], "correlation": i},
        }
        for i in range(count)
    ]  # fmt: skip


def text_of(events: list[dict[str, Any]], indent: int | None = None) -> str:
    return json.dumps({"schemaVersion": 1, "traceEvents": events, "traceName": "t"}, indent=indent, ensure_ascii=False)


def event_text(event: dict[str, Any], indent: int | None) -> bytes:
    """One event as it stands in `text_of`."""
    text = text_of([event], indent)
    return text[text.index("[") + 1 : text.rindex("]")].strip().encode()


def read(path: Path, content: bytes) -> tuple[list[Event], Document]:
    path.write_bytes(content)
    found = Document(path, path)
    return [event for batch in found.batches() for event in batch], found


@pytest.fixture(params=[(64, 128, 32), (4 << 20, 4 << 20, 16 << 10)], ids=["tiny windows", "real windows"])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    part, widest, narrowest = request.param
    for name, value in (("_PART", part), ("_WIDEST", widest), ("_NARROWEST", narrowest), ("_EVENT", 64)):
        monkeypatch.setattr(document, name, value)


def forms(events: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    plain = text_of(events)
    yield "one line", plain.encode()
    yield "indented", text_of(events, 2).encode()
    yield "byte order mark", b"\xef\xbb\xbf" + plain.encode()
    yield "UTF-16", plain.encode("utf-16")
    yield "UTF-16 without a mark", plain.encode("utf-16-le")
    yield "bare list", json.dumps(events).encode()
    yield "open list", json.dumps(events).removesuffix("]").encode()
    yield "open list with a comma", f"{json.dumps(events)[:-1]},".encode()
    yield "events last", plain.replace(', "traceName": "t"', "").encode()
    yield "events first", plain.replace('"schemaVersion": 1, ', "").encode()
    yield "a list of objects after them", plain.replace('"t"}', '[{"a": 1}, {"b": {}}, {"ph": "X"}]}').encode()


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("form", [name for name, _ in forms(kernels(Random(1)))])
def test_every_form_holds_every_event_once(form: str, tmp_path: Path) -> None:
    events = kernels(Random(3))
    (content,) = [content for name, content in forms(events) if name == form]
    found, told = read(tmp_path / "t.json", content)
    assert [(e.name, e.ts, e.dur) for e in found] == [(e["name"], e["ts"], e["dur"]) for e in events]
    assert {k: v for k, v in told.odd.items() if v and not k.startswith("lists")}.keys() <= {"mended_commas"}
    assert bool(told.odd["lists_not_closed"]) == form.startswith("open")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"traceEvents": [], "traceEvents": [{"ph": "X"}]}', "two lists `traceEvents`"),
        (b'{"a": {"traceEvents": [{"ph": "X"}]}}', "no list `traceEvents`"),
        (b'[{"ph": "X"}][{"ph": "X"}]', "goes on after its list"),
        (b'{"traceEvents": [{"ph": "X"}]', "not complete JSON"),
        (b'{"traceEvents": [{"ph": "X"}]}}', "not complete JSON"),
        (b'{"traceEvents": [{"ph": "X"}', "its list of events is not closed"),
        (b'{"traceEvents": [{"ph": "X"}, {"ph', "no whole event begins at byte 30"),
        (b'[{"ph": "X"}, {"ph', "no whole event begins at byte 14"),
        (b'{"traceEvents": [{"ph": "X"}, what]}', "no whole event begins at byte 30"),
    ],
)
def test_what_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path / "t.json", content)


DAMAGE = {
    "mended_quotes": lambda text: text.replace('"name": "k', '"name": "a "b" C:\\k', 1),
    "mended_controls": lambda text: text.replace('"name": "k', '"name": "\1\n\tk', 1),
    "mended_numbers": lambda text: text.replace('"stream": 7', '"stream": 7, "occupancy": -inf, "x": nan', 1),
    "mended_text": lambda text: text.replace('"name": "k', '"name": "\udcff\udce9k', 1),
    "mended_commas": lambda text: text.replace("}}, {", "}} {", 1),
}

ALSO = {
    "a path that ends in a backslash": (
        '"name": "kernel"',
        '"name": "C:\\dir\\new\\"',
        "mended_quotes",
        "C:\\dir\\new\\",
    ),
    "and texts behind it": (
        '"name": "kernel", "pid": 0',
        '"name": "C:\\new\\", "from": "x", "pid": 0, "to": "y"',
        "mended_quotes",
        "C:\\new\\",
    ),
    "a comma before the end": ('"correlation": 30}', '"correlation": 30,}', "mended_commas", "kernel"),
    "infinity as Windows prints it": (
        '"correlation": 30}',
        '"correlation": 30, "x": -1.#IND}',
        "mended_numbers",
        "kernel",
    ),
    "nan as Windows prints it": (
        '"correlation": 30}',
        '"correlation": 30, "x": -nan(ind)}',
        "mended_numbers",
        "kernel",
    ),
    "C++ with quotes": ('"name": "kernel"', '"name": "f<"a", b>("c", d)"', "mended_quotes", 'f<"a", b>("c", d)'),
    "a raw tab": ('"name": "kernel"', '"name": "a\tb"', "mended_controls", "a\tb"),
}


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("what", ALSO)
def test_further_damage_of_the_same_kinds(what: str, tmp_path: Path) -> None:
    plain, damaged, kind, name = ALSO[what]
    events = kernels(Random(5))
    events[30]["name"] = "kernel"
    text = text_of(events)
    assert plain in text
    found, told = read(tmp_path / "t.json", text.replace(plain, damaged).encode())
    assert [(e.ts, e.dur) for e in found] == [(e["ts"], e["dur"]) for e in events]
    assert (found[30].name, told.odd[kind], told.odd["events_mended"]) == (name, 1, 1)


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("what", DAMAGE)
def test_each_damage_is_repaired_and_named(what: str, tmp_path: Path) -> None:
    events = kernels(Random(5))
    events[30]["name"] = "kernel"
    damaged = DAMAGE[what](text_of(events))
    found, told = read(tmp_path / "t.json", damaged.encode("utf-8", "surrogateescape"))
    assert [(e.ts, e.dur) for e in found] == [(e["ts"], e["dur"]) for e in events]
    named = {key: count for key, count in told.odd.items() if count}
    assert named == {what: 1, **({} if what == "mended_commas" else {"events_mended": 1})}


def test_a_comma_before_the_end_of_an_event_is_named_once(tmp_path: Path) -> None:
    _, told = read(tmp_path / "t.json", text_of(kernels(Random(5))).replace("}}, {", ",}}, {", 1).encode())
    assert list(repairs(told.odd)) == [
        "1 event was not valid JSON and had to be repaired",
        "commas are missing or too many; every event was read all the same",
    ]


def test_damage_beside_the_events_is_repaired_and_named(tmp_path: Path) -> None:
    content = text_of(kernels(Random(5))).replace('"t"}', '"C:\\Users\\me\\trace.json", "rate": inf}')
    found, told = read(tmp_path / "t.json", content.encode())
    assert len(found) == EVENTS and told.rest["traceName"].startswith("C:\\Users")
    assert list(repairs(told.odd)) == ["what stands beside the events was not valid JSON and had to be repaired"]


def test_thousands_of_lost_events_take_no_time(tmp_path: Path) -> None:
    """Each is looked at by itself, and none makes the reader look at what is far behind it."""
    good, bad = '{"ph": "X", "ts": 1, "args": {}}', '{"ph": "X", "ts": 1 "args": {"a" "b"}}'
    started = process_time()
    found, told = read(tmp_path / "t.json", f"[{', '.join([good, bad] * 1_000)}]".encode())
    assert (len(found), told.odd["events_damaged"]) == (1_000, 1_000)
    assert process_time() - started < 10


def test_an_event_of_any_length_is_read(tmp_path: Path) -> None:
    events = kernels(Random(7), 3)
    events[1] = {"first": [{"a": 1}, {"b": 2}], **events[1], "name": "n" * (9 << 20)}
    assert [len(e.name) for e in read(tmp_path / "t.json", text_of(events).encode())[0]][1] == 9 << 20
    events[1]["name"] = "n" * 60_000
    found, told = read(tmp_path / "t.json", text_of(events).replace("nnn", 'n"n', 1).encode())
    assert [e.ts for e in found] == [0, 10, 20] and told.odd["mended_quotes"] == 1


def test_what_two_damaged_events_seem_to_be_together_is_not_one(tmp_path: Path) -> None:
    """A quote is missing: by its text the second event's keys belong to the first, which then has each of them twice."""
    content = '[{"ph": "X", "name": "a, "ts": 1}, {"ph": "X", "name": b", "ts": 2}, {"ph": "X", "name": "c", "ts": 3}]'
    found, told = read(tmp_path / "t.json", content.encode())
    assert [e.ts for e in found if e.name == "c"] == [3]
    assert len(found) + told.odd["events_damaged"] >= 3


def mutated(content: bytes, random: Random) -> bytes:
    """`content` with one or two places changed as damage does: bytes flipped, cut out, doubled, or the rest lost."""
    out = bytearray(content)
    for _ in range(random.randint(1, 2)):
        at = random.randrange(len(out))
        length = random.choice((1, 1, 2, 5, 40, 400))
        match random.randrange(5):
            case 0:
                out[at] ^= 1 << random.randrange(8)
            case 1:
                del out[at : at + length]
            case 2:
                out[at:at] = out[at : at + length]
            case 3:
                out[at : at + 1] = random.choice((b'"', b"\\", b"\n", b"\0", b"\xff", b"}", b"{", b"]", b"inf", b", "))
            case 4:
                del out[random.randint(at, len(out)) :]
    return bytes(out)


Kernels = list[tuple[str, str]]


def held(content: bytes) -> Kernels | str:
    """Start and duration of the kernels, by Python's own parser, or in one word why there are none."""
    try:
        found = json.loads(content.decode("utf-8", "replace"), parse_float=str)
    except ValueError:
        return "damaged"
    events = found.get("traceEvents") if isinstance(found, dict) else None
    if not isinstance(events, list):
        return "no list"
    seen = [e for e in events if isinstance(e, dict) and e.get("ph") == "X" and e.get("cat") == "kernel"]
    return [(str(e.get("ts")), str(e.get("dur"))) for e in seen]


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("seed", range(10))
def test_mutated_documents_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """20 documents a seed. What Python's parser reads must be read the same. Of what it does not, something must be named, and
    each event whose text is still whole must be read, but for as many as are counted as lost."""
    random = Random(seed)
    events, indent = kernels(random), random.choice((None, 1))
    whole = text_of(events, indent).encode()
    for _ in range(20):
        content = mutated(whole, random)
        expected = held(content)
        try:
            found, told = read(tmp_path / "t.json", content)
        except InputError as refusal:
            assert "\n" not in str(refusal)
            assert isinstance(expected, str)
            continue
        seen = [(str(e.ts), str(e.dur)) for e in found if e.ph == "X" and e.cat == "kernel"]
        if isinstance(expected, list):
            assert seen == expected
            continue
        assert expected == "damaged" and any(told.odd.values()), content
        intact = [(str(e["ts"]), str(e["dur"])) for e in events if event_text(e, indent) in content]
        assert (Counter(intact) - Counter(seen)).total() <= told.odd["events_damaged"], content


def test_any_bytes_are_refused_in_one_sentence(tmp_path: Path) -> None:
    random = Random(11)
    alphabet = b'{}[]":,\\ut1e-d8 \n\xff'
    for start in (b"", b"[", b'{"traceEvents": [', b'[{"ph": "X", "args": {'):
        for _ in range(100):
            content = start + bytes(random.choice(alphabet) for _ in range(random.randrange(60)))
            try:
                read(tmp_path / "t.json", content)
            except InputError as refusal:
                assert "\n" not in str(refusal) and "cannot be read as a torch.profiler trace" in str(refusal)


MOST_MIB = 110
"""What reading may take beside the interpreter and its libraries. 40 MB took 55 MiB, and 270 when all was parsed at once."""

_PEAK = """
import resource, sys
from pathlib import Path
from aisp_trace.traces.kineto.read import read_kineto
import aisp_trace.traces.kineto.document, polars
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trace = read_kineto(Path(sys.argv[1]))
print(trace.ops.height, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def many_copies(folder: Path) -> tuple[Path, Path]:
    """A real trace, and six copies of its events, one after the other."""
    one, many = folder / "one.json", folder / "many.json"
    unpack(SAMPLES / "h100_pipeline_decode_kineto.json.gz", one)
    text = one.read_text()
    first = text.index('"traceEvents": [') + len('"traceEvents": [')
    events = text[first : text.rindex("]")]
    many.write_text(text[:first] + ",".join([events] * 6) + text[text.rindex("]") :])
    assert many.stat().st_size > 39_000_000
    return one, many


@pytest.mark.nightly
def test_reading_takes_less_than_parsing_all_of_it(tmp_path: Path) -> None:
    """Processor time, the least of three: half of what Python's parser alone takes when this was written."""
    many = many_copies(tmp_path)[1]

    def least(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(3):
            before = process_time()
            work()
            times.append(process_time() - before)
        return min(times)

    assert least(lambda: read_kineto(many)) < least(lambda: json.loads(many.read_bytes(), parse_float=str))


def test_memory_does_not_grow_as_the_file_does(tmp_path: Path) -> None:
    one, many = many_copies(tmp_path)
    done = subprocess.run([sys.executable, "-P", "-c", _PEAK, many], capture_output=True, text=True, check=True)
    ops, kib = map(int, done.stdout.split())
    assert ops == 6 * open_trace(one).ops.height
    assert kib / 1024 < MOST_MIB
