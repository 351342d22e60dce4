"""Compare the code with the snapshots of what users rely on, or refresh them (docs/contracts.md).

python -P scripts/contracts.py --check                 every difference, and what it demands; leaves 1 if there is one
python -P scripts/contracts.py --write [--breaking]    refresh, and say which files; refuses what breaks

`--write` needs the line in CHANGELOG.md first: its newest section has to name each new option, key, column, word or metric.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from aisp_trace.tests.contracts import rules
from aisp_trace.tests.contracts.current import ROOT, everything

FOLDER = ROOT / "tests" / "contracts"


def main(arguments: list[str] | None = None) -> int:
    """Check or write all snapshots."""
    parser = argparse.ArgumentParser(description="Snapshots of what users rely on.", allow_abbrev=False)
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--check", action="store_true", help="compare the code with the snapshots")
    todo.add_argument("--write", action="store_true", help="refresh the snapshots")
    parser.epilog = "--write needs each new name in the first section of CHANGELOG.md, so write that line first."
    parser.add_argument("--breaking", action="store_true", help="with --write: also what breaks somebody, on purpose")
    asked = parser.parse_args(arguments)
    found = everything()
    changes = [change for name, today in found.items() for change in rules.changes(name, read(name), today)]
    refused = [] if first_time() else unsaid(changes, newest_section())
    for change in changes:
        done = asked.write and change.word not in refused
        print(change.sentence.replace(rules.NEW, "is new, and CHANGELOG.md names it") if done else change.sentence)
    if asked.check:
        return 1 if changes else 0
    for word in refused:
        print(f"CHANGELOG.md does not name `{word}` in its first section; write the line there, then repeat --write")
    if any(change.breaks for change in changes) and not asked.breaking:
        print("nothing was written: see above what breaks; --breaking writes it nevertheless")
        return 1
    if refused:
        print("nothing was written")
        return 1
    written = [name for name, snapshot in found.items() if snapshot != read(name)]
    for name in written:
        (FOLDER / f"{name}.json").write_text(json.dumps(found[name], indent=1) + "\n", encoding="utf-8")
        print(f"wrote tests/contracts/{name}.json")
    if not written:
        print("nothing to write: the snapshots are those of the code")
    return 0


def read(name: str) -> rules.Snapshot:
    """The committed snapshot called `name`; empty if there is none yet."""
    file = FOLDER / f"{name}.json"
    snapshot: rules.Snapshot = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return snapshot


def first_time() -> bool:
    """Whether no snapshot exists yet: then nothing has changed for anybody."""
    return not list(FOLDER.glob("*.json"))


def unsaid(changes: Iterable[rules.Change], section: str) -> list[str]:
    """Words of `changes` that the changelog's `section` does not name."""
    words = dict.fromkeys(change.word for change in changes)
    return [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", section)]


def newest_section(file: Path = ROOT / "CHANGELOG.md") -> str:
    """The changelog of the version in the making."""
    return re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


if __name__ == "__main__":
    sys.exit(main())
