"""Commands that are killed at any instant, starved of disk, run where nothing may be written, or run twice at once.

Afterwards nothing is half believed: an output is whole or absent, and the next command, undisturbed, does what it would have
done.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from aisp_trace.traces.bundle import unpack
from aisp_trace.traces.errors import AispTraceError

from .campaign import environment, say
from .case import INPUT, OUTPUT, made
from .child import emptied
from .seeds import Seeds

WAYS: Final = (
    "SIGKILL",
    "SIGKILL",
    "SIGKILL",
    "SIGINT",
    "SIGTERM",
    "file size",
    "full disk",
    "read only",
    "two at once",
    "accept during",
)
"""What happens to a command. ``file size`` is a limit after which writing fails; a full disk needs root, for a small tmpfs."""

PATIENCE_S: Final = 180
"""After which a command counts as hanging."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command, what it writes in the folder of outputs, and the exit codes that it may have undisturbed."""

    name: str
    words: tuple[str, ...]
    output: str
    whole: Callable[[Path], bool]
    codes: tuple[int, ...] = (0,)
    seconds: float = 2.0


def _page(file: Path) -> bool:
    return file.read_text(encoding="utf-8").rstrip().endswith("</html>")


def _bundle(file: Path) -> bool:
    folder = file.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        unpack(file, folder)
    except AispTraceError:
        return False
    finally:
        shutil.rmtree(folder)
    return True


def _json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _perfetto(file: Path) -> bool:
    data = file.read_bytes()
    return len(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data) > 100


def _tables(folder: Path) -> bool:
    mark = next(iter(folder.glob("*.json")), None)
    return mark is not None and _json(mark)


def _expectations(folder: Path) -> bool:
    return all(_json(file) for file in folder.glob("expectations_*.json"))


def _runs(folder: Path) -> bool:
    """Every folder that is no ``.partial-`` is a run with a whole manifest."""
    return all(
        _json(run / "manifest.json") for run in folder.iterdir() if run.is_dir() and not run.name.startswith(".")
    )


_PROGRAM: Final = "import time; t = time.perf_counter(); time.sleep(0.02); sum(range(20000))"

JOBS: Final = (
    Job("analyze", ("analyze", "trace.sqlite", "--json"), "", lambda _: True),
    Job("partial", ("analyze", "--partial", "../out", "trace.sqlite"), "", lambda _: True),
    Job("report", ("report", "trace.sqlite", "-o", "../out/r.html"), "r.html", _page),
    Job("report run", ("report", "run", "-o", "../out/r.html"), "r.html", _page, (0, 1, 3)),
    Job("bundle", ("bundle", "run", "-o", "../out/b.tar.gz"), "b.tar.gz", _bundle, (0, 1, 3)),
    Job("perfetto", ("export", "trace.sqlite", "--to", "perfetto", "-o", "../out/x.pftrace"), "x.pftrace", _perfetto),
    Job("parquet", ("export", "trace.sqlite", "--to", "parquet", "-o", "../out/x"), "x", _tables),
    Job("json", ("export", "trace.sqlite", "--to", "json", "-o", "../out/x.json"), "x.json", _json),
    Job("scrub", ("export", "trace.sqlite", "--scrub", "--force", "-o", "../out/s.sqlite"), "s.sqlite",
        lambda file: _readable(file)),
    Job("accept", ("accept", "run", "--yes", "--expectations", "../out"), "", _expectations, (0, 1, 2, 3)),
    Job("check", ("check", "run", "--junit", "../out/j.xml", "--markdown", "../out/m.md"), "j.xml",
        lambda file: file.read_text().rstrip().endswith("</testsuites>"), (0, 1, 3)),
    Job("capture", ("capture", "--output", "../out", "--profile", "none", "--rounds", "3", "--name", "pair",
        "--baseline", f"{sys.executable} -c '{_PROGRAM}'", "--optimized", f"{sys.executable} -c 'pass'"), "", _runs, (0,), 3.0),
)  # fmt: skip


def _readable(file: Path) -> bool:
    import sqlite3

    with suppress(sqlite3.Error):
        db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))
        finally:
            db.close()
    return False


def kills(seed: str, numbers: Iterable[int], seeds: Seeds, place: Path) -> list[tuple[str, list[str]]]:
    """Do it for each of `numbers`; returns (name, what was broken) of each that broke a rule, and prints what was done."""
    found, done = list[tuple[str, list[str]]](), Counter[str]()
    for i in numbers:
        rng = Random(f"kill {seed}:{i}")
        job, way = JOBS[i % len(JOBS)], rng.choice(WAYS)
        if way == "full disk" and os.geteuid() != 0:
            way = "file size"
        if way == "accept during" and job.name not in ("check", "accept", "report run", "bundle"):
            way = "two at once"
        box = emptied(place / "box")
        broken = list(_one(rng, job, way, box, seeds))
        done[f"{job.name.split()[0]} {way}"] += 1
        if broken:
            found.append((f"kill {seed}:{i} {job.name} {way}", broken))
            say(f"kill {seed}:{i} {job.name} {way}: {'; '.join(broken)[:700]}")
    say(f"{done.total()} kills: " + ", ".join(f"{n} {what}" for what, n in sorted(done.items())))
    return found


def _one(rng: Random, job: Job, way: str, box: Path, seeds: Seeds) -> Iterator[str]:
    folder = made(box)
    shutil.copy(rng.choice(seeds.exports[:4]), folder / "trace.sqlite")
    shutil.copytree(seeds.run, folder / "run")
    shutil.copytree(seeds.folder / "expectations", folder / "expectations")
    out = box / OUTPUT
    if job.output and rng.random() < 0.5:  # something good is there already
        first = _run(job.words, box)
        if first.returncode not in job.codes:
            yield f"undisturbed: {first.returncode} {first.stderr[-300:]!r}"
            return
    before = _state(out)
    yield from _disturb(rng, job, way, box)
    yield from _whole(job, out, before)
    yield from _next(job, box, out)


def _disturb(rng: Random, job: Job, way: str, box: Path) -> Iterator[str]:
    if way.startswith("SIG"):
        yield from _killed(rng, job, signal.Signals[way], box)
    elif way == "file size":
        limit = rng.choice((0, 512, 4096, 20_000, 100_000))
        yield from _told(_run(job.words, box, limit=limit), job, "with a limit on the size of files")
    elif way == "full disk":
        with _Small(box / OUTPUT, rng.choice((4096, 16_384, 65_536))) as mounted:
            if mounted:
                yield from _told(_run(job.words, box), job, "on a full disk")
                yield from _whole(job, box / OUTPUT, {})
    elif way == "read only":
        with _ReadOnly(box / OUTPUT, box / INPUT):
            yield from _told(_run(job.words, box), job, "where nothing may be written")
    else:
        other = JOBS[[one.name for one in JOBS].index("accept")] if way == "accept during" else job
        second = _start(other.words, box)
        first = _run(job.words, box)
        second.communicate(timeout=PATIENCE_S)
        for code, of, said in ((first.returncode, job, first.stderr), (second.returncode, other, "")):
            if code not in (*of.codes, 2):
                yield f"two at once: {of.name} left {code} {said[-300:]!r}"


def _killed(rng: Random, job: Job, with_: signal.Signals, box: Path) -> Iterator[str]:
    process = _start(job.words, box)
    time.sleep(rng.uniform(0.0, job.seconds))
    with suppress(ProcessLookupError):
        process.send_signal(with_)
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        yield f"goes on {PATIENCE_S} s after {with_.name}"
        return
    if "Traceback" in said and re.search(r"cli/(main|entry)\.py", said):  # else Python itself was still starting
        yield f"a traceback after {with_.name}: {said[-500:]!r}"
    allowed = (*job.codes, -with_, 128 + with_, 130)
    if process.returncode not in allowed:
        yield f"left {process.returncode} after {with_.name}: {said[-300:]!r}"


def _told(done: subprocess.CompletedProcess[str], job: Job, where: str) -> Iterator[str]:
    """One sentence, or success: nothing else."""
    if done.returncode not in (*job.codes, 2):
        yield f"left {done.returncode} {where}: {done.stderr[-500:]!r}"
    elif done.returncode == 2 and "aisp-trace: " not in done.stderr and not done.stdout.strip():
        yield f"no sentence {where}: {done.stderr[-300:]!r}"
    if "Traceback" in done.stderr:
        yield f"a traceback {where}: {done.stderr[-500:]!r}"


def _whole(job: Job, out: Path, before: Mapping[str, bytes]) -> Iterator[str]:
    """The output is what it was, absent, or whole."""
    file = out / job.output
    if job.output and not file.exists():
        if any(name == job.output or name.startswith(f"{job.output}/") for name in before):
            yield f"{job.output} was there before and is gone"
        return
    if _state(out) != before and not job.whole(file):
        yield f"{job.output or 'the folder of outputs'} is there and not whole"


def _next(job: Job, box: Path, out: Path) -> Iterator[str]:
    """The same command, undisturbed, does what it would have done."""
    again = _run(job.words, box)
    if again.returncode not in job.codes:
        yield f"the next command left {again.returncode}: {again.stderr[-300:]!r}"
        return
    if not job.whole(out / job.output):
        yield "the next command's output is not whole"
    fresh = box.with_name("fresh")
    if job.name in ("json", "analyze"):
        clean = emptied(fresh)
        made(clean)
        shutil.copytree(box / INPUT, clean / INPUT, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.aisp-cache"))
        if _run(job.words, clean).stdout != again.stdout:
            yield "the next command answers otherwise than in a clean folder"


def _state(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


def _command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "aisp_trace.cli", *words]


def _run(words: Sequence[str], box: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def starve() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # Answers go to pipes, which the limit does not hold for.
    return subprocess.run(
        _command(words), cwd=box / INPUT, env=environment(box), capture_output=True, text=True, errors="replace",
        timeout=PATIENCE_S, stdin=subprocess.DEVNULL, preexec_fn=starve,
    )  # fmt: skip


def _start(words: Sequence[str], box: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(words), cwd=box / INPUT, env=environment(box), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


class _Small:
    """`folder` as a disk of so many bytes, where one may be mounted."""

    def __init__(self, folder: Path, nbytes: int) -> None:
        self._folder, self._nbytes = folder, nbytes

    def __enter__(self) -> bool:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self._nbytes}", "tmpfs", str(self._folder)]
        self._mounted = subprocess.run(mount, capture_output=True).returncode == 0
        return self._mounted

    def __exit__(self, *_: Any) -> None:
        if self._mounted:
            subprocess.run(["umount", str(self._folder)], check=True, capture_output=True)


class _ReadOnly:
    """Folders in which nothing may be written: as root, whom no mode stops, by a mount."""

    def __init__(self, *folders: Path) -> None:
        self._folders, self._mounted = folders, list[Path]()

    def __enter__(self) -> None:
        for folder in self._folders:
            if os.geteuid() == 0:
                bound = (
                    subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True).returncode == 0
                )
                if bound:
                    self._mounted.append(folder)
                    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], capture_output=True)
            else:
                folder.chmod(0o500)

    def __exit__(self, *_: Any) -> None:
        for folder in self._mounted:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)
        for folder in self._folders:
            if os.geteuid() != 0:
                folder.chmod(0o700)
