"""Expectation files for people and programs: shown, validated, compared. Nothing here judges or writes."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..expectations.claims.diff import Difference, differences
from ..expectations.claims.load import FILE_PREFIX, PATTERN, choose_folder, load_expectations, load_file, load_folder
from ..expectations.claims.parse import parse
from ..expectations.claims.wanted import FILE as WANTED
from ..expectations.claims.wanted import load_wanted
from ..expectations.claims.write import claim_document
from ..expectations.model import ANY, Claim, ExpectationFile, Expectations, TimeClaim
from ..traces.documents import EXPECTATIONS, read_text
from ..traces.errors import InputError
from ..traces.run import nearest
from .accepting import CHOSEN, differences_table
from .console import escape, terminal_width

SHOW_SCHEMA = "aisp-trace/expectations-list/1"
DIFF_SCHEMA = "aisp-trace/expectations-diff/1"


@dataclass(frozen=True, slots=True)
class Validation:
    """One file: how many claims it holds, or one sentence about what is wrong."""

    path: Path
    claims: int
    error: str | None


Differing = tuple[tuple[str, tuple[Difference, ...]], ...]
"""For each hardware key, in order, what differs."""


def chosen_claims(asked: Path | None, workload: str | None, hardware: str | None) -> Expectations:
    """The claims that apply in the current folder, narrowed; raises `InputError` where nothing is left."""
    found = load_expectations(asked, Path.cwd())
    keys = [f.hardware_key for f in found.files]
    if hardware is not None and hardware not in keys:
        hint = nearest(hardware, keys) or f"; it has {', '.join(keys)}"
        raise InputError(f"{found.folder} has no expectations for {hardware!r}{hint}")
    names = sorted({c.workload for f in found.files for c in f.claims})
    if workload is not None and workload not in names:
        hint = nearest(workload, names) or f"; it has {', '.join(names) or 'none'}"
        raise InputError(f"{found.folder} has no claim on {workload!r}{hint}")
    files = tuple(
        ExpectationFile(f.hardware_key, tuple(c for c in f.claims if workload in (None, c.workload)))
        for f in found.files
        if hardware is None or f.hardware_key in (hardware, ANY)
    )
    return Expectations(found.folder, found.chosen, files)


def claims_text(found: Expectations) -> str:
    """File by file: each claim with what it bounds, its reason, and its source."""
    parts = [f"expectations  {escape(str(found.folder))} ({CHOSEN[found.chosen]})"]
    for file in found.files:
        if file.claims:
            where = "any machine" if file.hardware_key == ANY else file.hardware_key
            parts += ["", f"{where}, {len(file.claims)} claims"]
            parts += [line for claim in file.claims for line in _claim_lines(claim)]
    return "\n".join(parts)


def claims_document(found: Expectations) -> dict[str, Any]:
    """The same for programs; claims as they stand in their files."""
    files = [{"hardware_key": f.hardware_key, "claims": [claim_document(c) for c in f.claims]} for f in found.files]
    return {"schema": SHOW_SCHEMA, "folder": str(found.folder), "chosen": found.chosen, "files": files}


def validations(paths: Sequence[Path] | None) -> list[Validation]:
    """Every file named, or in a folder named; without names those that apply here. Raises `InputError` for no file."""
    found: list[Validation] = []
    for path in paths or [choose_folder(None, Path.cwd())[0]]:
        files = sorted([*path.glob(PATTERN), *path.glob(WANTED)]) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path} holds no file {PATTERN}; name a folder that does")
        alone = [_validated(file) for file in files]
        if path.is_dir() and all(v.error is None for v in alone):
            found += _together(path, alone)
        else:
            found += alone
    return found


def differing(old: Path, new: Path | None) -> Differing:
    """What changes from `old` to `new`; with `new` null, from the committed state to `old`."""
    after = _files(old if new is None else new)
    before = _committed(old) if new is None else _files(old)
    keys = dict.fromkeys((*before, *after))
    if new is not None and old.is_file() and new.is_file() and len(keys) > 1:
        # Two files are compared though they are of two machines: that is what was asked.
        (_, one), (key, two) = *before.items(), *after.items()
        return ((key, differences(one, two)),)
    return tuple((key, differences(before.get(key, ()), after.get(key, ()))) for key in keys)


def difference_text(found: Differing) -> str:
    """One table for each machine that differs."""
    parts = []
    for key, changes in found:
        if changes:
            parts.append(f"{'any machine' if key == ANY else key}\n{differences_table(changes, None)}")
            less = sum(d.asks_less for d in changes)
            many = "1 difference" if len(changes) == 1 else f"{len(changes)} differences"
            parts.append(f"{many}, {less} of them ask{'s' if less == 1 else ''} for less.")
    return "\n".join(parts) or "No claim differs."


def difference_document(found: Differing) -> dict[str, Any]:
    """The same for programs."""
    rows = [
        {
            "hardware_key": key,
            "claim": d.claim,
            "part": d.part,
            "old": d.old,
            "new": d.new,
            "change": d.direction,
            "asks_less": d.asks_less,
        }
        for key, changes in found
        for d in changes
    ]
    return {"schema": DIFF_SCHEMA, "differences": rows}


def _claim_lines(claim: Claim) -> list[str]:
    """The claim, what it bounds, why it should hold, and where the bound comes from; wrapped to the terminal."""
    run = f" {claim.source.run}" if claim.source.run else ""
    lines = [escape(claim.id if claim.size is None else f"{claim.id} [{claim.size}]")]
    lines += [f"  {escape(what)}  {bound}" for what, bound in _bounds(claim)]
    for title, said in (("why", claim.why), (f"{claim.source.kind}{run}", claim.source.text)):
        text = escape(f"{title}: {said}")
        lines += textwrap.wrap(text, terminal_width(), initial_indent="    ", subsequent_indent="    ")
    return lines


def _bounds(claim: Claim) -> list[tuple[str, str]]:
    if not isinstance(claim, TimeClaim):
        unit = "" if claim.unit in ("fraction", "count", "ratio") else f" {claim.unit}"
        return [(claim.quantity(), f"{claim.bound}{unit}")]
    found = [(f"speedup of {claim.variant} over {claim.baseline}", str(claim.ratio))]
    found += [(f"time of {name}", f"<= {limit:.4g} ms") for name, limit in claim.max_ms.items()]
    return found + [(f"items of {name}", f">= {floor:.4g} /s") for name, floor in claim.min_items_per_s.items()]


def _validated(file: Path) -> Validation:
    try:
        if file.name == WANTED:
            return Validation(file, len(load_wanted(file.parent)), None)
        # A file by itself may have any name; in a folder its name says which machine it is for.
        named = file.name.startswith(FILE_PREFIX)
        claims = load_file(file).claims if named else parse(read_text(file, EXPECTATIONS), str(file)).claims
        return Validation(file, len(claims), None)
    except InputError as exc:
        return Validation(file, 0, str(exc))


def _together(folder: Path, alone: list[Validation]) -> list[Validation]:
    try:
        load_folder(folder, "option")
    except InputError as exc:
        return [*alone, Validation(folder, 0, str(exc))]
    return alone


def _files(path: Path) -> dict[str, tuple[Claim, ...]]:
    if not path.exists():
        raise InputError(f"{path} does not exist; name an expectation file or a folder of them")
    if path.is_dir():
        found = {f.hardware_key: f.claims for f in load_folder(path, "option").files}
        if not found:
            raise InputError(f"{path} holds no file {PATTERN}; name a folder that does")
        return found
    file = parse(read_text(path, EXPECTATIONS), str(path))
    return {file.hardware_key: file.claims}


def _committed(path: Path) -> dict[str, tuple[Claim, ...]]:
    """The same files as git's HEAD has them; files that are not committed are absent."""
    if not path.exists():
        raise InputError(f"{path} does not exist; name an expectation file or a folder of them")
    out = {}
    folder = path if path.is_dir() else path.parent
    names = _git(folder, "ls-tree", "--name-only", "HEAD", "./").splitlines()
    pattern = PATTERN if path.is_dir() else path.name
    for name in sorted(n for n in names if Path(n).match(pattern)):
        file = parse(_git(folder, "show", f"HEAD:./{name}"), f"{name} as committed")
        out[file.hardware_key] = file.claims
    if not out and path.is_file():
        raise InputError(f"{path} is not committed, so there is nothing to compare it with; name a second file")
    return out


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, encoding="utf-8", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise InputError(f"git cannot say what is committed in {folder}: {exc}; name a second file or folder") from exc
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise InputError(f"git cannot say what is committed in {folder} ({escape(why)}); name a second file or folder")
    return done.stdout
