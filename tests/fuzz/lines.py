"""Command lines: which looks a trace gets, and cases in which words and names are what is hostile."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Final

from . import damage
from .case import Case, made
from .seeds import Seeds

OPTIONS: Final = {
    "analyze": (
        "--window",
        "--iterations",
        "--skip",
        "--attribution",
        "--domain",
        "--stages",
        "--depth",
        "--range",
        "--gaps",
    ),
    "compare": ("--window", "--against", "--top", "--domain", "--stages", "--depth"),
    "export": ("--to", "--window", "--domain", "--depth", "--range", "--variant"),
    "predict": ("--change", "--iterations", "--skip", "--domain", "--variant"),
    "report": ("--expectations",),
    "check": ("--expectations", "--junit", "--markdown"),
    "ranks": ("--workers", "--depth", "--skip"),
}
"""Commands, and options of theirs that take a word."""

WORDS: Final = (
    *(
        "0:1",
        "1ms:2ms",
        "+0:+1ms",
        "5:1",
        ":",
        "all",
        "steady",
        "iteration#1",
        "iteration#99999",
        "a#1:a#9",
        "x#-1",
        "-1s:1e9s",
    ),
    *(
        "1e999ms:2e999ms",
        "nan:inf",
        "99999999999999999999999ns:1s",
        "[",
        "(?P<",
        "(",
        "\\",
        ".*",
        "^$",
        "-5",
        "0",
        "1",
        "3",
    ),
    *(
        "graph:forward",
        "copies:overlap",
        "host:",
        "kernels:forward:-1",
        "fuse:forward:1e99",
        "syncs",
        "comm",
        "perfetto",
        "csv",
        "json",
    ),
    *(
        "process",
        "thread",
        "threads",
        "baseline",
        "--",
        "-",
        "--json",
        "iteration",
        "train/forward",
        "/",
        "//",
        "1.5",
        "٣",
        "1_000",
    ),
)
"""Words that such an option may be given."""


def looks_at_trace(rng: Random, case: Case, name: str, *, nsys: bool = False, few: bool = False) -> None:
    """The looks at one trace: always one analysis of all of it; then one or two of the others."""
    whole = ("analyze", name, "--window", "all", "--json")
    first = case.look(*whole, "--no-cache")
    if few:
        return
    if nsys and rng.random() < 0.5:
        case.look(*whole, "--no-cache", like=first, reader=rng.choice(("adbc", "pages")))
    how = rng.randrange(16)
    if how == 0:
        again = case.look(*whole)
        case.look(*whole, like=again)
        case.look(*whole, like=again, damage_kept=rng.randrange(2**32))
    elif how == 1:
        case.look("report", name, "-o", "../out/r.html")
    elif how == 2:
        case.look("analyze", name)
    elif how == 3:
        case.look("compare", name, name, "--json")
    elif how == 4:
        case.look("predict", name, "--json")
    elif how == 5:
        case.look("export", name, "--to", rng.choice(("perfetto", "csv", "parquet", "json")), "-o", "../out/x")
    elif how == 6:
        case.look("analyze", name, "--timeline")
    elif how == 7:
        case.look("export", name, "--scrub", "-o", "../out/s.sqlite")
        if nsys:
            case.look("analyze", "../out/s.sqlite", *whole[2:], "--no-cache", like=first)
    elif how == 8:
        case.look("analyze", "--partial", "../out", name)
        case.look("ranks", "../out", "--json")
    elif how == 9:
        case.look("analyze", name, "--json", "--no-cache")


def words_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Hostile options and values on a good trace or run."""
    folder = made(box)
    shutil.copy(rng.choice(seeds.exports), folder / "trace.sqlite")
    command = rng.choice(tuple(OPTIONS))
    target = "trace.sqlite"
    if command in ("check", "report") or rng.random() < 0.1:
        shutil.copytree(seeds.run, folder / "run")
        target = "run"
    words = [command, target]
    for option in rng.sample(OPTIONS[command], min(len(OPTIONS[command]), rng.choice((1, 1, 2, 3)))):
        value = damage.text(rng).replace("\0", "\1") if rng.random() < 0.3 else rng.choice(WORDS)
        words += [f"{option}={value}"] if rng.random() < 0.5 else [option, value]
    if command == "compare" and rng.random() < 0.5:
        words.insert(2, target)
    if command in ("report", "export"):
        words += ["-o", f"../out/{_name(rng)}"]
    if command == "ranks":
        words += ["--partial", "../out"]
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words)), rng.choice(WORDS))
    # A word that names a place to write may only name one in ../out.
    words = [
        w
        for i, w in enumerate(words)
        if not (w.startswith(("--junit", "--markdown")) or words[i - 1] in ("--junit", "--markdown"))
    ]
    case = Case("words")
    case.look(
        *words, *(("--json",) if command in ("analyze", "compare", "predict", "check") and rng.random() < 0.6 else ())
    )
    return case


def _name(rng: Random) -> str:
    """A file name that a file system takes, mostly."""
    text = (
        damage.text(rng)
        if rng.random() < 0.7
        else rng.choice(("-o", "--force", "a" * 250, "a" * 300, "x.html", "..", ".", " "))
    )
    return text.replace("\0", "").replace("/", "") or "x"


def names_case(rng: Random, box: Path, seeds: Seeds) -> Case:
    """Hostile names of files and folders, links to nothing and to itself, folders and pipes where files are meant."""
    folder = made(box)
    name = _name(rng)
    if name in (".", ".."):
        name = "x"
    file = folder / name
    kind = rng.randrange(8)
    try:
        if kind < 4:
            shutil.copy(rng.choice(seeds.exports), file)
        elif kind == 4:
            shutil.copytree(seeds.run, file)
        elif kind == 5:
            file.symlink_to(rng.choice(("nowhere", name, "/proc/self/mem", "..", "/dev/null")))
        elif kind == 6:
            file.mkdir()
            file.chmod(rng.choice((0o700, 0o000)))
        else:
            file.write_bytes(b"")
    except OSError:
        pass  # a name that this file system does not take is asked for all the same
    case = Case("names")
    word = f"./{name}" if rng.random() < 0.8 else name
    case.look(*rng.choice((
        ("analyze", "--json", word),
        ("analyze", word),
        ("report", word, "-o", "../out/r.html"),
        ("check", word),
        ("bundle", "verify", word),
        ("expectations", "validate", word),
        ("export", word, "--to", "csv", "-o", f"../out/{_name(rng)}"),
        ("compare", word, word),
        ("ranks", word, "--partial", "../out"),
    )))  # fmt: skip
    return case
