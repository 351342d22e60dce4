"""The archive of a bundle: what goes in comes out, the same folder gives the same bytes, and nothing else gets through."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.traces.bundle import INDEX, pack, unpack
from aisp_trace.traces.errors import InputError

FILES = {"a/data.bin": bytes(range(256)) * 5, "a/empty": b"", "b.txt": b"words\n", "a/exact": bytes(512)}
MADE_WITH = {"aisp-trace": "0.1.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        file = tmp_path / "folder" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "folder"


def packed(folder: Path, target: Path) -> Path:
    pack(folder, target, "run-1", MADE_WITH)
    return target


def refused(file: Path, tmp_path: Path, words: str) -> None:
    """Unpacking fails with `words`, and nothing lies outside the folder it was to go to."""
    inside = tmp_path / "inside"
    inside.mkdir()
    before = {p for p in tmp_path.rglob("*") if inside not in p.parents}
    with pytest.raises(InputError, match=words):
        unpack(file, inside)
    assert {p for p in tmp_path.rglob("*") if inside not in p.parents} == before
    assert not any(p.is_symlink() or not (p.is_file() or p.is_dir()) for p in inside.rglob("*"))


def test_what_goes_in_comes_out(folder: Path, tmp_path: Path) -> None:
    made = pack(folder, tmp_path / "x.tar.gz", "run-1", MADE_WITH)
    out = tmp_path / "out"
    out.mkdir()
    found = unpack(tmp_path / "x.tar.gz", out)
    assert found == made
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == FILES
    assert [m.path for m in found.index.members] == sorted(FILES)
    assert all(m.sha256 == hashlib.sha256(FILES[m.path]).hexdigest() for m in found.index.members)


def test_the_same_folder_gives_the_same_bytes_whenever_and_whoever(folder: Path, tmp_path: Path) -> None:
    one = packed(folder, tmp_path / "one.tar.gz").read_bytes()
    for file in folder.rglob("*"):
        os.utime(file, (1, 2))
        file.chmod(0o700)
    assert packed(folder, tmp_path / "other name.tar.gz").read_bytes() == one


def test_any_tar_unpacks_it(folder: Path, tmp_path: Path) -> None:
    file = packed(folder, tmp_path / "x.tar.gz")
    subprocess.run(["tar", "-xzf", str(file), "-C", str(tmp_path)], check=True)
    assert (tmp_path / "run-1" / "a" / "data.bin").read_bytes() == FILES["a/data.bin"]
    index = json.loads((tmp_path / "run-1" / INDEX).read_text())
    assert index["run_id"] == "run-1"
    with tarfile.open(file) as archive:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in archive} == {(0, 0, "", "", 0, 0o644)}


def test_the_identity_stands_for_every_byte(folder: Path, tmp_path: Path) -> None:
    one = pack(folder, tmp_path / "1", "run-1", MADE_WITH).identity
    (folder / "b.txt").write_bytes(b"Words\n")
    assert pack(folder, tmp_path / "2", "run-1", MADE_WITH).identity != one


def test_a_bundle_appears_whole_or_not_at_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.tar.gz"
    target.write_bytes(b"before")

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space left on device"):
        packed(folder, target)
    assert target.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.tar.gz"]


def test_every_flipped_byte_of_the_content_is_found(folder: Path, tmp_path: Path) -> None:
    """All bytes of the uncompressed archive: headers, content, padding and end. What the index says of the makers is
    checked by nothing, but belongs to the identity."""
    made = pack(folder, tmp_path / "x.tar.gz", "run-1", MADE_WITH)
    whole = gzip.decompress((tmp_path / "x.tar.gz").read_bytes())
    passed = []
    for at in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[at] ^= 1
        file, inside = tmp_path / "changed.tar.gz", tmp_path / f"out{at}"
        file.write_bytes(gzip.compress(bytes(changed), 1))
        inside.mkdir()
        try:
            assert unpack(file, inside).identity != made.identity
            passed.append(at)
        except InputError:
            continue
    made_with = whole.index(b"made_with")
    assert all(made_with <= at <= made_with + 40 for at in passed)


@pytest.mark.parametrize("where", [0, 5, 200, -3])
def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path, where: int) -> None:
    file = packed(folder, tmp_path / "x.tar.gz")
    content = bytearray(file.read_bytes())
    content[where] ^= 0xFF
    file.write_bytes(content)
    inside = tmp_path / "inside"
    inside.mkdir()
    if where == 5:  # the time in gzip's own header, which says nothing of the content
        assert unpack(file, inside).index.run_id == "run-1"
    else:
        with pytest.raises(InputError):
            unpack(file, inside)


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"", mtime=0), gzip.compress(b"short", mtime=0)])
def test_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(content)
    refused(file, tmp_path, "cannot be read as a bundle: ")


def test_a_cut_bundle(folder: Path, tmp_path: Path) -> None:
    file = packed(folder, tmp_path / "x.tar.gz")
    file.write_bytes(file.read_bytes()[:-60])
    refused(file, tmp_path, "damaged|cut|checksum|follow")


def test_something_after_the_end(folder: Path, tmp_path: Path) -> None:
    file = packed(folder, tmp_path / "x.tar.gz")
    file.write_bytes(file.read_bytes() + gzip.compress(b"more"))
    refused(file, tmp_path, "more than its index says")


# --- hostile archives -------------------------------------------------------------------------------------------------

Member = tuple[tarfile.TarInfo, bytes]


def hostile(target: Path, members: list[dict[str, Any]], entries: list[Member], **index: Any) -> Path:
    """An archive by hand: an index that says `members`, then `entries` as a general `tar` would write them."""
    document = {"schema": "aisp-trace/bundle/1", "run_id": "run-1", "made_with": {}, "members": members, **index}
    text = json.dumps(document).encode()
    with tarfile.open(target, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        first = tarfile.TarInfo("run-1/index.json")
        first.size = len(text)
        archive.addfile(first, io.BytesIO(text))
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return target


def entry(path: str, content: bytes = b"x", **fields: Any) -> Member:
    info = tarfile.TarInfo(f"run-1/{path}")
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def says(path: str, content: bytes = b"x", **fields: Any) -> dict[str, Any]:
    return {"path": path, "nbytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **fields}


def test_the_builder_of_hostile_archives_can_make_an_honest_one(tmp_path: Path) -> None:
    file = hostile(tmp_path / "x.tar.gz", [says("a")], [entry("a")])
    out = tmp_path / "out"
    out.mkdir()
    unpack(file, out)
    assert (out / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "", "a//b", ".hidden", "a/.", "a\\b", "a\nb", "x" * 200, "index.json"]
)
def test_paths_that_lead_elsewhere(tmp_path: Path, path: str) -> None:
    refused(
        hostile(tmp_path / "x.tar.gz", [says(path)], [entry(path[:90])]), tmp_path, "not a name of a bundle's member"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0},
        {"type": tarfile.LNKTYPE, "linkname": "run-1/index.json", "size": 0},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "size": 0},
        {"type": tarfile.FIFOTYPE, "size": 0},
        {"type": tarfile.DIRTYPE, "size": 0},
        {"mode": 0o4755},
        {"mtime": 1},
        {"uid": 1000},
        {"uname": "someone"},
        {"name": "run-1/../../a"},
    ],
    ids=str,
)
def test_links_devices_and_every_other_header(tmp_path: Path, fields: dict[str, Any]) -> None:
    file = hostile(tmp_path / "x.tar.gz", [says("a")], [entry("a", **fields)])
    refused(file, tmp_path, "does not follow as the plain file")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([says("b"), says("a")], "not in order, or not different"),
        ([says("a"), says("a")], "not in order, or not different"),
        ([says("a"), says("a/b")], "not in order, or not different"),
        ([says("a", nbytes=-1)], "a member may have"),
        ([says("a", nbytes=9 << 30)], "a member may have"),
        ([says(f"a{i}", nbytes=7 << 30) for i in range(5)], "may hold 32 GiB"),
        ([says("a", nbytes=7 << 30)], "an impossible ratio for a recording"),
        ([{**says("a"), "mode": 1}], "unknown key 'mode'"),
        ([says("a", sha256=5)], "expected text, found a number"),
        ([says("a", sha256="0" * 64)], "checksum of a is wrong"),
        ([says("a"), says("b")], "does not follow"),
        ([], "more than its index says"),
    ],
)
def test_indexes_that_lie(tmp_path: Path, members: list[dict[str, Any]], words: str) -> None:
    refused(hostile(tmp_path / "x.tar.gz", members, [entry("a")]), tmp_path, words)


def test_another_schema_or_folder(tmp_path: Path) -> None:
    refused(hostile(tmp_path / "x.tar.gz", [], [], schema="aisp-trace/bundle/9"), tmp_path, "use the version that made")


def test_a_run_that_names_another_folder(tmp_path: Path) -> None:
    refused(hostile(tmp_path / "x.tar.gz", [], [], run_id="other"), tmp_path, "not that of its run")


def test_an_index_without_end_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    info = tarfile.TarInfo("run-1/index.json")
    info.size = 8 << 30
    file.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + b"{"))
    refused(file, tmp_path, "does not begin with an index")


def test_no_room_on_the_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = packed(folder, tmp_path / "x.tar.gz")
    usage: Callable[[Path], Any] = lambda path: type("Usage", (), {"free": 5})  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", usage)
    refused(file, tmp_path, "set TMPDIR to another disk")
