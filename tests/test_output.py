"""The rule for outputs, on the module alone: what is refused, what is replaced, and that nothing is ever half there.

That every option of every command follows it is test_output_options' business.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import InputError, UsageError
from aisp_trace.traces.output import Inputs, Kind, Output, check_all, check_container, make_container, replacing

KIND = Kind("page", lambda head: head.startswith(b"<ours>"))
FOLDER = Kind("export", parts=lambda folder: {"mark", "a/b"} if (folder / "mark").is_file() else None)


def listing(folder: Path) -> list[str]:
    """Everything below `folder`, hidden files too."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def page(path: Path, *inputs: Path, force: bool = False, runs: tuple[Path, ...] = ()) -> Output:
    return Output(path, KIND, Inputs(inputs, runs), force, "-o")


def export(path: Path, *inputs: Path, force: bool = False) -> Output:
    return Output(path, FOLDER, Inputs(inputs), force, "-o")


def fill(output: Output, content: str = "new") -> None:
    """Write a whole earlier export's worth of files."""
    with output.folder() as building:
        (building / "mark").write_text(content)
        (building / "a").mkdir()
        (building / "a" / "b").write_text(content)


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ["same", "dot", "symlink", "hard link", "link to a link", "through a linked folder"])
def test_an_input_is_never_written_under_any_name(alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trace = tmp_path / "t.sqlite"
    trace.write_text("<ours> recorded")
    Path("link").symlink_to("t.sqlite")
    Path("second").symlink_to("link")
    Path("hard").hardlink_to("t.sqlite")
    Path("folder").symlink_to(".")
    named = {
        "same": trace,
        "dot": Path("./t.sqlite"),
        "symlink": Path("link"),
        "hard link": Path("hard"),
        "link to a link": Path("second"),
        "through a linked folder": Path("folder/t.sqlite"),
    }[alias]
    for read in (trace, Path("link"), Path("t.sqlite")):
        with pytest.raises(UsageError, match="cannot be the output too, even with --force"):
            page(named, read, force=True).write_text("new")
    assert trace.read_text() == "<ours> recorded"


def test_a_run_is_an_input_with_every_file_in_it(tmp_path: Path) -> None:
    run, far = tmp_path / "run", tmp_path / "far"
    (run / "rounds").mkdir(parents=True)
    far.mkdir()
    (run / "manifest.json").write_text("{}")
    (run / "rounds" / "r.json").write_text("<ours>")
    (run / "notes.txt").write_text("mine")
    (run / "report.html").write_text("<ours> old")
    (far / "trace").write_text("far")
    (run / "trace").symlink_to(far / "trace")
    for name in ("manifest.json", "rounds/r.json", "notes.txt", "trace"):
        with pytest.raises(UsageError, match="is read by this command"):
            page(run / name, runs=(run,), force=True).check()
    with pytest.raises(UsageError, match="is read by this command as"):
        page(far / "trace", runs=(run,), force=True).check()
    page(run / "report.html", runs=(run,)).write_text(
        "<ours> new"
    )  # an earlier output beside the run is none of its parts
    page(run / "other.html", runs=(run,)).write_text("<ours> new")
    assert (run / "report.html").read_text() == (run / "other.html").read_text() == "<ours> new"


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_content_decides_what_is_replaced_and_force_decides_for_the_rest(tmp_path: Path) -> None:
    script, old = tmp_path / "report.html", tmp_path / "train.py"
    script.write_text("import torch")
    old.write_text("<ours> old")
    with pytest.raises(
        UsageError, match=r"exists and is not a page; choose another name with -o, or replace it with --force"
    ):
        page(script).write_text("new")
    assert script.read_text() == "import torch"
    page(script, force=True).write_text("new")
    page(old).write_text("new")
    assert script.read_text() == old.read_text() == "new"
    assert listing(tmp_path) == ["report.html", "train.py"]


def test_what_no_content_tells_apart_always_takes_force(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    trace.write_text("recorded")
    with pytest.raises(UsageError, match="exists and is not replaced unasked"):
        Output(trace, Kind("trace")).check()
    Output(trace, Kind("trace"), force=True).check()


def test_a_write_protected_file_takes_force(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("<ours>")
    old.chmod(0o444)
    with pytest.raises(UsageError, match="is write-protected"):
        page(old).check()
    page(old, force=True).write_text("new")
    assert old.read_text() == "new"


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("<ours>")
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link", Path()):
        with pytest.raises(UsageError, match="is a folder where a file is to be written"):
            page(path, force=True).check()
    with pytest.raises(UsageError, match="is a file where a folder is to be written"):
        export(tmp_path / "file", force=True).check()
    with pytest.raises(UsageError, match="is a file where a folder is to be written"):
        check_container(tmp_path / "file", "--output")


def test_what_is_named_is_made_and_nothing_above_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent" / "x")
    for above in ("absent", "file"):
        for refused in (page(tmp_path / above / "x").check, export(tmp_path / above / "x").check):
            with pytest.raises(InputError, match=rf"because .*{above} is not a folder; make it first"):
                refused()
        with pytest.raises(InputError, match="is not a folder; make it first"):
            make_container(tmp_path / above / "x", "--output")
    with pytest.raises(InputError, match="absent is not a folder; make it first"):
        page(tmp_path / "dangling").check()
    make_container(tmp_path / "made", "--output")
    make_container(tmp_path / "made", "--output")
    assert listing(tmp_path) == ["dangling", "file", "made"]


# --- links, devices, pipes --------------------------------------------------------------------------------------------


def test_a_link_is_kept_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, real = tmp_path / "link", tmp_path / "far" / "page"
    link.symlink_to("far/page")
    page(link).write_text("<ours> 1")  # dangling
    page(link).write_text("<ours> 2")
    assert link.is_symlink() and not real.is_symlink() and real.read_text() == "<ours> 2"
    folder = tmp_path / "folder"
    folder.symlink_to("far/export")
    fill(export(folder), "1")
    fill(export(folder), "2")
    assert folder.is_symlink() and (tmp_path / "far" / "export" / "mark").read_text() == "2"
    assert listing(tmp_path / "far") == ["export", "export/a", "export/a/b", "export/mark", "page"]


def test_links_in_a_circle_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="symbolic links"):
        page(tmp_path / "a").check()


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path: Path) -> None:
    page(Path("/dev/null")).write_text("x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(InputError, match="/dev/full cannot be written: No space left on device"):
        page(Path("/dev/full")).write_text("x")
    pipe, got = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    page(pipe).write_text("through")
    reader.join(PATIENCE_S)
    assert got == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    assert listing(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_disk_is_never_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    try:
        os.mknod(disk, stat.S_IFBLK | 0o600, os.makedev(240, 200))
    except PermissionError:
        pytest.skip("device nodes are forbidden here")
    with pytest.raises(UsageError, match="is a disk"):
        page(disk, force=True).check()


def child(program: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `program` with the names of this file's imports, and `page`."""
    head = (
        "import os, resource, sys\nfrom pathlib import Path\n"
        "from aisp_trace.traces.output import *\nfrom aisp_trace.traces.output import Inputs, Kind, Output\n"
        "KIND = Kind('page', lambda head: head.startswith(b'<ours>'))\n"
    )
    command = [sys.executable, "-P", "-c", head + program]
    return subprocess.run(command, text=True, timeout=PATIENCE_S, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_and_what_it_is_stays(name: str, tmp_path: Path) -> None:
    program = f"print('before'); Output(Path({name!r}), KIND).write_text('page\\n'); print('after')"
    piped = child(program, stdout=subprocess.PIPE)
    assert (piped.stdout, piped.stderr) == ("before\npage\nafter\n", "")
    log = tmp_path / "log"
    log.write_text("kept\n")
    with log.open("a") as end:  # >> log
        assert child(program, stdout=end).returncode == 0
    assert log.read_text() == "kept\nbefore\npage\nafter\n" and listing(tmp_path) == ["log"]


def test_standard_output_may_be_the_input(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    trace.write_text("recorded")
    with trace.open("r+") as stdout:  # 1<>t
        done = child(f"Output(Path('-'), KIND, Inputs([Path({str(trace)!r})])).check()", stdout=stdout)
    assert "UsageError" in done.stderr and trace.read_text() == "recorded"


# --- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("bug")]
)
def test_what_fails_midway_leaves_the_old_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("<ours> old")
    fill(export(tmp_path / "folder"), "old")
    before = listing(tmp_path)
    expected = InputError if isinstance(error, OSError) else type(error)
    for path in (old, tmp_path / "new"):
        with pytest.raises(expected) as told, page(path).file() as building:
            building.write_text("half")
            raise error
        if isinstance(error, OSError):
            assert str(told.value) == (
                f"{path} cannot be written: No space left on device; nothing was changed, name another place with -o"
            )
    for path in (tmp_path / "folder", tmp_path / "more"):
        with pytest.raises(expected), export(path).folder() as building:
            (building / "mark").write_text("half")
            raise error
    with pytest.raises(type(error)), replacing(old) as building:
        building.write_text("half")
        raise error
    assert listing(tmp_path) == before
    assert old.read_text() == "<ours> old" and (tmp_path / "folder" / "mark").read_text() == "old"


def test_a_disk_that_is_only_full_at_the_end_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old"
    old.write_text("<ours> old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        page(old).write_text("new")
    assert old.read_text() == "<ours> old" and listing(tmp_path) == ["old"]


def test_a_file_that_may_grow_no_further_for_real(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("<ours> old")
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    done = child(f"{limit}Output(Path({str(old)!r}), KIND).write_text('x' * 100_000)", stdout=subprocess.PIPE)
    assert "InputError" in done.stderr and "cannot be written: File too large" in done.stderr
    assert old.read_text() == "<ours> old" and listing(tmp_path) == ["old"]
    done = child(f"{limit}Output(Path({str(old)!r}), KIND).append_text('x' * 100_000)", stdout=subprocess.PIPE)
    assert "cannot be written: File too large" in done.stderr
    assert old.read_text() == "<ours> old", "what was appended is taken away again"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]).returncode:
        pytest.skip("only root, and not everywhere, can mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_and_a_read_only_disk_for_real(mounted: Path) -> None:
    old = mounted / "old"
    old.write_text("<ours> old")
    with pytest.raises(InputError, match="No space left on device; nothing was changed"):
        page(old).write_text("x" * 100_000)
    with pytest.raises(InputError, match="No space left on device"):
        fill(export(mounted / "folder"), "x" * 100_000)
    with pytest.raises(InputError, match="No space left on device"):
        page(old).append_text("x" * 100_000)
    assert listing(mounted) == ["old"] and old.read_text() == "<ours> old"
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    for output in (page(old), page(mounted / "new"), export(mounted / "new")):
        with pytest.raises(InputError, match="nothing can be written in"):
            output.check()
    with pytest.raises(InputError, match="nothing can be written in"):
        check_container(mounted, "--output")


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders let nobody else in
        folder = Path(name)
        (folder / "old").write_text("<ours>")
        folder.chmod(0o555)
        program = (
            "if os.geteuid() == 0: os.setuid(65534)\n"
            f"for name in ('old', 'new'):\n    try: Output(Path({name!r}, name), KIND).check()\n"
            "    except Exception as exc: print(exc)"
        )
        done = child(program, stdout=subprocess.PIPE)
        folder.chmod(0o755)
        assert done.stdout.splitlines() == [
            f"{folder / name} cannot be written because nothing can be written in {folder}; name another place"
            for name in ("old", "new")
        ], done.stderr
        assert listing(folder) == ["old"]


def test_ctrl_c_for_real(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("<ours> old")
    program = (
        "from pathlib import Path\nimport time\nfrom aisp_trace.traces.output import Kind, Output\n"
        "kind = Kind('page', lambda head: True)\n"
        f"with Output(Path({str(tmp_path / 'old')!r}), kind).file() as building:\n"
        "    building.write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"writing\n"
    assert len(listing(tmp_path)) == 2
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert listing(tmp_path) == ["old"] and (tmp_path / "old").read_text() == "<ours> old"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_any_file(umask: int, tmp_path: Path) -> None:
    previous = os.umask(umask)
    try:
        page(tmp_path / "new").write_text("<ours>")
        fill(export(tmp_path / "folder"))
        page(tmp_path / "log").append_text("x")
    finally:
        os.umask(previous)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("new", "folder", "log")}
    assert modes == {"new": 0o666 & ~umask, "folder": 0o777 & ~umask, "log": 0o666 & ~umask}
    (tmp_path / "new").chmod(0o640)
    (tmp_path / "folder").chmod(0o750)
    page(tmp_path / "new").write_text("<ours>")
    fill(export(tmp_path / "folder"))
    assert ((tmp_path / "new").stat().st_mode & 0o777, (tmp_path / "folder").stat().st_mode & 0o777) == (0o640, 0o750)


def test_the_longest_name_works_and_a_longer_one_is_a_sentence(tmp_path: Path) -> None:
    page(tmp_path / ("n" * 255)).write_text("<ours>")
    fill(export(tmp_path / ("f" * 255)))
    for path in (tmp_path / ("n" * 256), tmp_path / ("d" * 256) / "x"):
        for output in (page(path), export(path)):
            with pytest.raises(InputError, match="name too long"):
                output.check()
    with pytest.raises(InputError, match="name too long"):
        make_container(tmp_path / ("n" * 256), "--output")


def test_what_appears_meanwhile_is_judged_as_if_it_had_been_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists and is not a page"), page(tmp_path / "a").file() as building:
        building.write_text("ours")
        (tmp_path / "a").write_text("theirs")
    with pytest.raises(UsageError, match="exists and is not an export"), export(tmp_path / "b").folder() as building:
        (building / "mark").write_text("ours")
        (tmp_path / "b").mkdir()
    trace = tmp_path / "t"
    trace.write_text("recorded")
    with pytest.raises(UsageError, match="is read by"), page(tmp_path / "c", trace, force=True).file() as building:
        (tmp_path / "c").hardlink_to(trace)
    assert (tmp_path / "a").read_text() == "theirs" and trace.read_text() == "recorded"
    assert listing(tmp_path) == ["a", "b", "c", "t"]


# --- folders ----------------------------------------------------------------------------------------------------------


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    fill(export(tmp_path / "out"), "old")
    with export(tmp_path / "out").folder() as building:
        (building / "mark").write_text("new")
    assert listing(tmp_path) == ["out", "out/mark"] and (tmp_path / "out" / "mark").read_text() == "new"


@pytest.mark.parametrize("foreign", ["notes.txt", "a/notes.txt", "a/.hidden", "b/c/d.txt", "link", "empty/"])
def test_what_is_no_part_of_an_export_is_never_deleted(foreign: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(export(out), "old")
    added = out / foreign
    if foreign == "link":
        added.symlink_to("/etc")
    elif foreign.endswith("/"):
        added.mkdir()
    else:
        added.parent.mkdir(exist_ok=True, parents=True)
        added.write_text("mine")
    before = listing(tmp_path)
    for force in (False, True):
        with pytest.raises(UsageError, match=r"holds .*, which is not part of an earlier export"):
            fill(export(out, force=force))
    assert listing(tmp_path) == before and (out / "mark").read_text() == "old"


@pytest.mark.parametrize("content", [None, "thesis.txt", "a/b"])
def test_a_folder_that_is_no_export_is_never_replaced(content: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if content is not None:
        (out / content).parent.mkdir(exist_ok=True)
        (out / content).write_text("mine")
    before = listing(tmp_path)
    for force in (False, True):
        with pytest.raises(UsageError, match="is not an export, so it is not replaced, even with --force"):
            fill(export(out, force=force))
    assert listing(tmp_path) == before


def test_an_export_that_cannot_be_put_in_place_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    fill(export(out), "old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        fill(export(out), "new")
    assert listing(tmp_path) == ["out", "out/a", "out/a/b", "out/mark"] and (out / "mark").read_text() == "old"


def test_a_file_that_joins_an_export_at_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fill(export(out), "old")
    rename = Path.rename

    def join(self: Path, target: Path) -> Path:
        if self == out:
            (out / "thesis.txt").write_text("mine")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", join)
    with pytest.raises(UsageError, match=r"holds thesis.txt"):
        fill(export(out), "new")
    assert (out / "thesis.txt").read_text() == "mine" and (out / "mark").read_text() == "old"


# --- several outputs, and appending -----------------------------------------------------------------------------------


def test_two_outputs_are_never_one_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    one, other = Output(tmp_path / "a", KIND, option="--junit"), Output(tmp_path / "link", KIND, option="--markdown")
    with pytest.raises(UsageError, match="--junit and --markdown both name"):
        check_all([one, other])
    with pytest.raises(UsageError, match="both name"):
        check_all([Output(Path("-"), KIND, option="--junit"), Output(Path("/dev/stdout"), KIND, option="--markdown")])
    check_all([Output(Path("/dev/null"), KIND), Output(Path("/dev/null"), KIND), one])


def test_appending_keeps_what_is_there_and_follows_the_rule_otherwise(tmp_path: Path) -> None:
    trace, summary = tmp_path / "t", tmp_path / "summary"
    trace.write_text("recorded")
    summary.write_text("before\n")
    (tmp_path / "link").symlink_to(trace)
    page(summary).append_text("after\n")
    page(tmp_path / "new").append_text("after\n")
    assert summary.read_text() == "before\nafter\n" and (tmp_path / "new").read_text() == "after\n"
    with pytest.raises(UsageError, match="is read by this command"):
        page(tmp_path / "link", trace).append_text("x")
    with pytest.raises(UsageError, match="is a folder"):
        page(tmp_path).append_text("x")
    with pytest.raises(InputError, match="make it first"):
        page(tmp_path / "absent" / "x").append_text("x")
    assert trace.read_text() == "recorded"
