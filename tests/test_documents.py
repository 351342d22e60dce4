"""The one door for JSON from outside: what is refused, with which sentence, what is read, and that there is no other door."""

from __future__ import annotations

import ast
import gzip
import json
import lzma
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.capture import folder as capture_folder
from aisp_trace.capture.answer import read_answer
from aisp_trace.capture.plan import load_plan
from aisp_trace.capture.torch_recorder import recorded_ranges
from aisp_trace.expectations.claims.load import load_folder
from aisp_trace.report.proof import verify
from aisp_trace.traces import documents, unpack
from aisp_trace.traces.bundle import pack
from aisp_trace.traces.calibration import load_calibration
from aisp_trace.traces.content import one_line
from aisp_trace.traces.documents import DEEPEST, EXPECTATIONS, TORCH, Kind, parse, read, read_text
from aisp_trace.traces.errors import AispTraceError, InputError
from aisp_trace.traces.kineto.read import read_kineto
from aisp_trace.traces.open import open_trace
from aisp_trace.traces.run import load_run
from aisp_trace.traces.scrub.kineto import scrub_kineto
from aisp_trace.traces.stages_file import read_stages

ROOT = Path(__file__).resolve().parents[1]
SMALL = Kind("a small document", 1000, "write less")

DEEP = "[" * 100_000
HOSTILE = {
    "deep lists": (DEEP.encode(), "nests more than 100 levels deep"),
    "deep objects": (b'{"a":' * 50_000, "nests more than 100 levels deep"),
    "deep and closed": (b"[" * 101 + b"]" * 101, "nests more than 100 levels deep"),
    "5,000 digits": (b'{"schema": 1' + b"0" * 5_000 + b"}", "does not fit 64 bits"),
    "2**63": (b"[9223372036854775808]", "its integer 9223372036854775808 does not fit 64 bits"),
    "2**70": (b"[-1180591620717411303424]", "does not fit 64 bits"),
    "1e999": (b"[1e999]", "its number 1e999 is not finite"),
    "NaN": (b"[NaN]", "NaN is not a JSON number"),
    "-Infinity": (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
    "twice": (b'{"a": {"b": 1, "b": 2}}', "key 'b' appears twice"),
    "half a character": (b'["\\ud800"]', "half a character"),
    "half a key": (b'{"\\uDFFF": 1}', "half a character"),
    "latin-1": (b'{"a": "\xe9"}', "is not UTF-8 text (byte 7)"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
    "empty": (b"", "is not JSON"),
    "cut": (b'{"a": [1, 2', "is not JSON"),
    "two": (b"{} {}", "is not JSON"),
    "raw control character": (b'["a\nb"]', "is not JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_refused_and_how(name: str, tmp_path: Path) -> None:
    content, words = HOSTILE[name]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "x.json", EXPECTATIONS)
    said = str(caught.value)
    assert words in said
    assert said.startswith(f"{tmp_path / 'x.json'} cannot be read as expectations: ")
    assert said.endswith("; correct the file") and "\n" not in said and len(said) < 400


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # editors of Windows begin a file with a byte order mark
        (b"[9223372036854775807, -9223372036854775808]", [(1 << 63) - 1, -(1 << 63)]),
        (b"[1e308, 1e-999, -0.0, 0.1]", [1e308, 0.0, -0.0, 0.1]),
        (b'["\\ud83d\\ude00", "\\u0000", "\\\\ud800"]', ["\U0001f600", "\0", "\\ud800"]),
        ("[" * DEEPEST + "]" * DEEPEST, None),
        ('["' + "[" * 5_000 + '\\"", "' + "\\\\" * 3 + '", {"{": "["}]', None),  # brackets in texts are none
    ],
)
def test_what_is_read(content: bytes | str, value: Any) -> None:
    found = parse(content, EXPECTATIONS, "it")
    assert found == (json.loads(content) if value is None else value)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0


@given(TREES, st.booleans())
def test_what_json_writes_is_read_as_it_was(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only), EXPECTATIONS, "it") == value


@given(TREES, st.integers(1, 7), st.integers(0, 6))
def test_depth_is_told_exactly_whatever_the_chunks(value: Any, chunk: int, limit: int) -> None:
    """Chunks of a few bytes cut strings, escapes and runs of brackets in every way."""
    text = json.dumps(value, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_CHUNK", chunk)
        patch.setattr(documents, "DEEPEST", limit)
        if depth(value) > limit:
            with pytest.raises(InputError, match="nests more than"):
                parse(text, EXPECTATIONS, "it")
        else:
            assert parse(text, EXPECTATIONS, "it") == value


@given(st.text(alphabet='{}[]":,\\ut1e-d8 \n', max_size=60) | st.text())
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        parse(text, EXPECTATIONS, "it")
    except InputError as refusal:
        assert str(refusal).startswith("it cannot be read as ") and "\n" not in one_line(str(refusal))


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    """A file of 10 GB, with holes on the disk: refused without being read into memory."""
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(10 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="longer than 1,000 bytes, the limit; write less"):
        read(huge, SMALL)
    with pytest.raises(InputError, match="longer than 16,777,216 bytes"):
        read_text(huge, EXPECTATIONS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert parse(b"[" + b" " * 998 + b"]", SMALL, "it") == []
    with pytest.raises(InputError, match="longer than 1,000 bytes"):
        parse(b"[" + b" " * 999 + b"]", SMALL, "it")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
        ("absent", "cannot be read: No such file"),
    ):
        with pytest.raises(InputError, match=words):
            read(tmp_path / path, SMALL)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "a\0b", SMALL)


EVENT = (
    '{"ph": "X", "cat": "kernel", "name": "k%s", "ts": 1.5, "dur": 2.25, "pid": 1,'
    ' "args": {"device": 0, "stream": 7, "x": %s}}'
)


def torch_file(tmp_path: Path, number: str = "1", name: str = "") -> Path:
    path = tmp_path / "t.json"
    path.write_text('{"schemaVersion": 1, "traceEvents": [' + EVENT % (name, number) + "]}")
    return path


@pytest.mark.parametrize(
    "number",
    [
        "18446744073709551616",
        str(2**70),
        "NaN",
        "-Infinity",
        "1e999",
        "1" + "0" * 5_000,
        '{"a": 1, "a": 2}',
        '"\\ud800"',
    ],
)
def test_torch_json_is_read_as_profilers_write_it(tmp_path: Path, number: str) -> None:
    path = torch_file(tmp_path, number)
    packed = tmp_path / "t.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    marked = tmp_path / "m.json"
    marked.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    for file in (path, packed, marked):
        assert open_trace(file).ops.select("start_ns", "end_ns").row(0) == (1500, 3750)
    assert read_kineto(packed).ops.height == 1
    scrub_kineto(path, tmp_path / "scrubbed.json")
    assert read_kineto(tmp_path / "scrubbed.json").ops.height == 1


def test_torch_names_may_hold_anything(tmp_path: Path) -> None:
    path = torch_file(tmp_path, name="QQ")
    path.write_bytes(path.read_bytes().replace(b"QQ", b"\xff\x01\xe9"))
    assert read_kineto(path).ops["name"].to_list() == ["k\ufffd\x01\ufffd"]


@pytest.mark.parametrize(
    "content", [DEEP.encode(), b'{"traceEvents": [' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"]}"]
)
def test_torch_json_that_nests_too_deeply(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    for door in (lambda: open_trace(path), lambda: scrub_kineto(path, tmp_path / "y.json")):
        with pytest.raises(InputError, match="nests too deeply; record fewer steps"):
            door()


def test_a_torch_trace_beyond_the_limit(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.write(b'{"traceEvents": [')
        file.truncate(10 << 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aisp_trace.traces.kineto.document.TORCH", Kind(TORCH.what, 1 << 20, TORCH.remedy))
        with pytest.raises(InputError, match="longer than 1,048,576 bytes, the limit; record fewer steps"):
            open_trace(huge)
    assert TORCH.most_bytes < 10 << 30


@pytest.mark.parametrize("ending", ["gz", "xz"])
@pytest.mark.parametrize("start", [b'{"traceEvents": [', b"SQLite format 3\0", b"\0"])
def test_a_bomb_is_not_unfolded(tmp_path: Path, ending: str, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SLACK", 1 << 20)
    bomb = tmp_path / f"trace.{ending}"
    with gzip.open(bomb, "wb") if ending == "gz" else lzma.open(bomb, "wb") as out:
        out.write(start)
        for _ in range(24):
            out.write(bytes(1 << 20))
    written: list[int] = []
    actual = unpack._write

    def counted(out: BinaryIO, part: bytes, target: Path) -> None:
        written.append(len(part))
        actual(out, part, target)

    monkeypatch.setattr(unpack, "_write", counted)
    with pytest.raises(
        InputError, match=r"unfolds to more than .* bytes, as no trace of its size does; unpack it yourself"
    ):
        open_trace(bomb)
    assert sum(written) <= unpack.MOST_UNFOLDING * bomb.stat().st_size + (1 << 20)
    assert list(tmp_path.iterdir()) == [bomb]


def test_json_is_unfolded_no_further_than_it_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "TORCH", Kind(TORCH.what, 3 << 20, TORCH.remedy))
    bomb = tmp_path / "trace.json.gz"
    bomb.write_bytes(gzip.compress(b"\xef\xbb\xbf [" + b"[]," * (2 << 20)))
    with pytest.raises(InputError, match="unfolds to more than 3,145,728 bytes"):
        open_trace(bomb)


def test_a_full_disk_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress(b"{}"))

    class Full:
        def write(self, part: bytes) -> None:
            raise OSError(28, "No space left on device")

    actual = unpack._write
    monkeypatch.setattr(unpack, "_write", lambda out, part, target: actual(Full(), part, target))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"does not fit .* \(No space left on device\); set TMPDIR"):
        open_trace(packed)


def bundle_with(content: bytes, tmp_path: Path) -> Path:
    """A bundle whose checksums are right and whose verdict and manifest are `content`."""
    folder = tmp_path / "made"
    (folder / "run").mkdir(parents=True)
    for name in ("verdict.json", "report.html", "run/manifest.json"):
        (folder / name).write_bytes(content)
    pack(folder, tmp_path / "b.tar.gz", "run-1", {})
    return tmp_path / "b.tar.gz"


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


DOORS: dict[str, Callable[[bytes, Path], Any]] = {
    "manifest": lambda content, at: load_run(write(at / "run" / "manifest.json", content).parent),
    "stages": lambda content, at: read_stages(write(at / "stages.json", content)),
    "calibration": lambda content, at: load_calibration(write(at / "calibration_h200.json", content)),
    "expectations": lambda content, at: load_folder(write(at / "expectations_any.json", content).parent, "option"),
    "plan": lambda content, at: load_plan(write(at / "plan.json", content).parent),
    "answer": lambda content, at: read_answer(write(at / "answer.jsonl", content or b"\n\n"), "it"),
    "bundle": lambda content, at: verify(bundle_with(content, at)),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_answers_in_one_sentence(door: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(AispTraceError) as caught:
        DOORS[door](HOSTILE[name][0], tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_what_may_be_absent_counts_as_absent(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name][0]
    write(tmp_path / "stages.json", content)
    assert recorded_ranges(tmp_path) == 0
    write(tmp_path / "steps" / "round.json", content)
    run = capture_folder.PartialRun(tmp_path, None)  # type: ignore[arg-type]
    assert run.recall("round", object, {}) is None


@pytest.mark.parametrize("name", ["deep lists", "5,000 digits", "latin-1", "half a character"])
def test_a_damaged_cache_is_as_good_as_none(name: str, tmp_path: Path) -> None:
    path = torch_file(tmp_path)
    assert open_trace(path, cache=True).ops.height == 1
    write(tmp_path / "t.json.aisp-cache" / "key.json", HOSTILE[name][0])
    assert open_trace(path, cache=True).ops.height == 1


def test_the_command_line_leaves_two_without_a_traceback(tmp_path: Path) -> None:
    for name, (content, _) in HOSTILE.items():
        folder = write(tmp_path / name.replace(" ", "_") / "manifest.json", content).parent
        if name not in ("deep lists", "5,000 digits", "half a character"):
            continue
        command = [sys.executable, "-P", "-m", "aisp_trace.cli", "check", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("aisp-trace: ")


DOORS_OF_JSON = ("traces/documents.py", "traces/kineto/damaged.py", "traces/kineto/events.py")
"""Documents of ours and of a profiler; the last is the one place of msgspec."""
READERS = ("load", "loads", "JSONDecoder", "detect_encoding", "decoder", "scanner")


def json_readers(source: str) -> list[str]:
    """Each place of `source` that parses JSON by itself: json's readers, by whatever name, and polars' and pydantic's."""
    found, names = [], {"json", "orjson", "simplejson", "ujson", "msgspec"}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name in names}
        if isinstance(node, ast.ImportFrom) and node.module in ("json", "json.decoder", "orjson"):
            found += [f"line {node.lineno}: {alias.name}" for alias in node.names if alias.name in (*READERS, "*")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner in names and node.attr in READERS) or node.attr in (
                *("read_json", "read_ndjson", "scan_ndjson", "json_decode", "str_json_decode"),
                *("model_validate_json", "validate_json", "raw_decode", "Decoder"),
            ):
                found.append(f"line {node.lineno}: {node.attr}")
    return found


def test_there_is_no_other_door() -> None:
    folders = [p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests", ".dev")]
    files = [file for name in folders for file in (ROOT / name).rglob("*.py")]
    assert len(files) > 150
    found = {str(f.relative_to(ROOT)): json_readers(f.read_text(encoding="utf-8")) for f in files}
    assert all(found.pop(door) for door in DOORS_OF_JSON), "the walk does not even find the doors"
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.loads('1')",
        "import json as j\nj.load(f)",
        "from json import loads",
        "from json import load as l",
        "import json\nx = json.loads\n",
        "import json\njson.JSONDecoder().decode('1')",
        "import polars as pl\npl.read_json(f)",
        "from json.decoder import JSONDecoder",
        "import msgspec\nmsgspec.json.Decoder(list)",
    ],
)
def test_other_doors_are_seen(source: str) -> None:
    assert json_readers(source)
