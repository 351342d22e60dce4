"""One case in a process of its own: within limits, its files watched, its answers held against the rules.

The parent has imported everything and started none of polars' threads, so that a fork takes 5 ms in place of a start's second.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final

from . import damage, rules
from .case import INPUT, OUTPUT, Answer, Case, Look, Outcome

MOST_SECONDS: Final = 120
"""Wall time after which a case counts as hanging, on a machine that others use too."""

MOST_CPU_S: Final = 30
"""Processor time of all looks of a case. Usual ones take 0.2 s."""

MOST_MB: Final = 1_500
"""Peak of resident memory, of which 300 MB are the parent's. Inputs have up to 0.5 MB, and unfold to 84 MB at most."""

ADDRESSES: Final = 12 << 30
LARGEST_FILE: Final = 1 << 30

WATCHED: Final = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
}
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Maker = Callable[[Path], Case]


def prepare() -> None:
    """Import what commands use, so that no child has to; and let the garbage collector forget it, so that forks share it."""
    from aisp_trace import expectations
    from aisp_trace.cli.main import COMMANDS, main

    for name in COMMANDS:
        importlib.import_module(f"aisp_trace.cli.commands.{name}")
    for name in (
        *(
            "traces.nsys.read",
            "traces.kineto.read",
            "traces.nsys.compiled",
            "traces.store",
            "analyze.sources",
            "analyze.compiled",
        ),
        *(
            "analyze.kept",
            "analyze.findings.find",
            "analyze.document",
            "analyze.ranks.gather",
            "report.proof",
            "report.page.page",
        ),
        *("report.again", "report.scrubbed", "report.export.perfetto", "report.export.tables", "traces.scrub.nsys"),
        *(
            "traces.scrub.kineto",
            "traces.scrub.run",
            "traces.bundle",
            "traces.nsys.samples",
            "expectations.judging.judge",
        ),
    ):
        importlib.import_module(f"aisp_trace.{name}")
    for name in ("pyarrow.parquet", "plotly.graph_objects", "jinja2", "adbc_driver_sqlite.dbapi", "difflib"):
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as empty, _silent():
        for words in (
            ["analyze"],
            ["compare"],
            ["predict"],
            ["check"],
            ["report"],
            ["export", "--to", "csv"],
            ["ranks"],
            ["bundle", "verify"],
        ):
            main([*words, f"{empty}/absent"])
        main(["expectations", "validate", empty])
        ours = str(Path(expectations.__file__).parent)
        for words in (["validate", ours], ["show", "--expectations", ours], ["diff", ours, ours], ["migrate", ours]):
            main(["expectations", *words])
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if any(name.startswith("polars-0") for name in names):
        raise RuntimeError(
            "polars' threads run already, and a fork would wait for them for good; find out what started them"
        )
    gc.collect()
    gc.freeze()


class _silent:
    def __enter__(self) -> None:
        sys.stdout.flush()
        self._kept = os.dup(1), os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        for number, kept in enumerate(self._kept, 1):
            os.dup2(kept, number)
            os.close(kept)


def run(make: Maker, box: Path) -> Outcome:
    """Make a case in the folder `box` and try it, all in a child; what the child cannot tell, such as its death, is told here."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _in_child(make, box, writing)
        except BaseException:
            _tell(writing, Outcome("?", [], [f"the fuzzer itself: {traceback.format_exc()}"], {}))
        finally:
            os._exit(0)
    os.close(writing)
    told = b""
    late = False
    while True:
        left = MOST_SECONDS - (time.monotonic() - began)
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            late = True
            break
        part = os.read(reading, 1 << 16)
        if not part:
            break
        told += part
    os.close(reading)
    if late:
        _end(child)
    _, status, used = os.wait4(child, 0)
    parts = [json.loads(line) for line in told.splitlines() if line.endswith(b"}")]
    found = Outcome(**parts[-1]) if parts else Outcome("?", [], [], {})
    if late:
        found.finds.append(f"hangs: {MOST_SECONDS} s")
    elif os.waitstatus_to_exitcode(status) != 0:
        found.finds.append(f"died of signal {-os.waitstatus_to_exitcode(status)}")
    found.seconds, found.peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss >> 10
    if found.seconds > MOST_CPU_S:
        found.finds.append(f"took {found.seconds:.0f} s of processor time")
    if found.peak_mb > MOST_MB:
        found.finds.append(f"took {found.peak_mb} MB of memory")
    return found


def _end(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def _tell(pipe: int, outcome: Outcome) -> None:
    data = json.dumps(asdict(outcome)).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _in_child(make: Maker, box: Path, pipe: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    case = make(box)
    before = _tree(box / INPUT)
    outside: list[str] = []
    _watch(box, outside)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * MOST_CPU_S, 2 * MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    sys.dont_write_bytecode = True
    answers = [_answer(look, box) for look in case.looks]
    checked: dict[str, int] = {}
    outcome = Outcome(case.kind, [a.code for a in answers], [], checked)
    outcome.finds += rules.of_case(case, box, answers, checked)
    outcome.finds += sorted(set(outside))
    outcome.finds += _left_behind(box, before, answers)
    _tell(pipe, outcome)


def settle(box: Path) -> None:
    """Make this process live in `box`: folders of the user, temporary files, the current folder, nsys."""
    kept = box / "kept"
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ[name] = str(kept / name)
    os.environ |= {"HOME": str(box / "home"), "TMPDIR": str(box / "tmp"), "AISP_NSYS": str(box / "home" / "nsys")}
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS", "AISP_TRACE_NO_NUMBA", "FORCE_COLOR", "COLUMNS", "CI"):
        os.environ.pop(name, None)
    tempfile.tempdir = None
    os.chdir(box / INPUT)


def _answer(look: Look, box: Path) -> Answer:
    from aisp_trace.analyze import kept
    from aisp_trace.cli.main import main
    from aisp_trace.traces import engine
    from aisp_trace.traces.nsys import columns

    settle(box)
    changed: Any = kept
    changed.LEAST_BYTES = 0
    changed = columns
    changed.ADBC_ROWS = 0 if look.reader else 5_000
    engine._turned = False
    engine.COMPILED_FROM = 0 if look.reader == "pages" else 1 << 62
    if look.damage_kept is not None:
        damage_kept(Random(look.damage_kept), box)
    files = [box / "printed", box / "said"]
    for number, file in enumerate(files, 1):
        there = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        os.dup2(there, number)
        os.close(there)
    code: int | None
    try:
        code = main(list(look.words))
    except BaseException:
        code = None
        sys.stderr.write(traceback.format_exc())
    sys.stdout.flush()
    sys.stderr.flush()
    printed, said = (file.read_text(encoding="utf-8", errors="backslashreplace") for file in files)
    return Answer(look, code, printed, said)


def damage_kept(rng: Random, box: Path) -> None:
    """Damage one or a few files that earlier looks kept."""
    there = [*(box / "kept").rglob("*"), *(p for c in (box / INPUT).glob("*.aisp-cache") for p in c.iterdir())]
    files = sorted(p for p in there if p.is_file())
    for file in rng.sample(files, min(len(files), rng.choice((1, 1, 2)))):
        file.write_bytes(damage.raw(rng, file.read_bytes()) if rng.random() < 0.8 else b"")


def _watch(box: Path, outside: list[str]) -> None:
    """From now on, whatever this process writes outside of `box`, connects to or starts, is added to `outside`."""
    home = str(box)

    def inside(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        where = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links stay links)
        return where.startswith((home + "/", "/dev/", "/proc/self/")) or where == home

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITING and not inside(path):
                outside.append(f"writes {os.fsdecode(path)}")
            elif isinstance(path, str) and path.endswith("etc/passwd"):
                outside.append(f"reads {path}")
        elif event in WATCHED:
            outside.extend(
                f"{event} {os.fsdecode(path)}"
                for path in args[:2]
                if isinstance(path, str | bytes | Path) and not inside(path)
            )
        elif event == "socket.connect":
            outside.append(f"connects to {args[1]!r}")
        elif event == "subprocess.Popen" and Path(os.fsdecode(args[0])).name not in ("nsys", "git"):
            outside.append(f"starts {args[0]!r}")

    sys.addaudithook(hook)


def _tree(folder: Path) -> dict[str, str]:
    """What each entry below `folder` holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"link {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path.relative_to(folder))] = "folder"
    return found


def _left_behind(box: Path, before: dict[str, str], answers: list[Answer]) -> Iterator[str]:
    """Inputs are what they were, temporary folders are empty, and a refused command leaves no output."""
    after = _tree(box / INPUT)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name) and ".aisp-cache" not in name and not _asked(name, answers):
            how = "changed" if name in before and name in after else "made" if name in after else "removed"
            yield f"{how}: {name!r} in the folder of inputs"
    if left := sorted(p.name for p in (box / "tmp").iterdir()):
        yield f"left in the temporary folder: {left[:5]}"
    hidden = [p.name for p in (box / OUTPUT).rglob(".aisp-trace-*")]
    if hidden:
        yield f"left beside the output: {hidden}"
    wrote = [a for a in answers if "-o" in a.look.words or "--partial" in a.look.words]
    if wrote and all(a.code == 2 for a in wrote) and all("ranks" not in a.look.words for a in wrote):
        made = [p.name for p in (box / OUTPUT).iterdir()]
        if made and not any("accept" in a.look.words for a in answers):
            yield f"refused, and yet wrote {made[:5]}"


def _asked(name: str, answers: list[Answer]) -> bool:
    """Whether a command may write that name where it runs: its default output."""
    return any(a.look.words[0] in ("ranks",) and name.startswith("aisp-ranks") for a in answers)


def emptied(box: Path) -> Path:
    """An empty folder `box`."""
    if box.exists():
        for path in box.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(box)
    box.mkdir(parents=True)
    return box
