"""What users rely on is as docs/contracts.md and the snapshots say; what went missing or is new is said with its consequence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the interface of workload files needs torch")

from aisp_trace.cli.main import COMMANDS
from aisp_trace.tests.contracts.current import everything
from aisp_trace.tests.contracts.rules import BROKEN, NEW, Snapshot, changes

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "contracts"
PAGE = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")


def committed(name: str) -> Snapshot:
    snapshot: Snapshot = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return snapshot


@pytest.fixture(scope="module")
def today() -> dict[str, Snapshot]:
    return everything()


@pytest.mark.parametrize("name", BROKEN)
def test_the_code_keeps_the_contract(name: str, today: dict[str, Snapshot]) -> None:
    found = [change.sentence for change in changes(name, committed(name), today[name])]
    assert not found, "\n".join(["", *found])


def test_every_snapshot_is_checked(today: dict[str, Snapshot]) -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(today) == set(BROKEN)


def test_every_command_is_in_the_snapshot(today: dict[str, Snapshot]) -> None:
    assert {line.split()[1] for line in today["commands"]} == {*COMMANDS, "COMMAND"}, "COMMAND: what all have"


def schemas_in_code() -> set[str]:
    """Schemas that the shipped code names in full."""
    shipped = [p for folder in json_free_folders() for p in (ROOT / folder).rglob("*.py")]
    return {s for p in shipped for s in re.findall(r'"(aisp-trace/[a-z-]+/\d+)"', p.read_text(encoding="utf-8"))}


def json_free_folders() -> list[str]:
    return [p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name != "tests"]


def test_every_schema_has_a_snapshot_and_a_row(today: dict[str, Snapshot]) -> None:
    known = {schema for name in ("answers", "documents") for schema in today[name] if schema.startswith("aisp-trace/")}
    rows = set(re.findall(r"^\| `(aisp-trace/[a-z-]+/\d+)` \|", PAGE, flags=re.MULTILINE))
    assert len(known) >= 15
    assert schemas_in_code() == known == rows


def test_the_page_names_every_exit_code_and_tests_that_exist(today: dict[str, Snapshot]) -> None:
    codes = {code for group in today["exit_codes"].values() for code in group.values()}
    assert codes <= set(re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE))
    named = set(re.findall(r"tests/[\w/]+\.(?:py|json)", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


BASE = {"aisp-trace/x/1": {"rows": "list", "rows[].ns": "integer", "size": "text, required"}}


@pytest.mark.parametrize(
    ("after", "breaks", "said"),
    [
        ({"aisp-trace/x/1": {"rows": "list", "size": "text, required"}}, True, "rows[].ns (integer) went missing"),
        ({"aisp-trace/x/1": {**BASE["aisp-trace/x/1"], "rows[].ns": "number"}}, True, "rows[].ns was integer and is number"),
        ({"aisp-trace/x/1": {**BASE["aisp-trace/x/1"], "more": "text"}}, False, f"more (text) {NEW}"),
        ({"aisp-trace/x/1": {**BASE["aisp-trace/x/1"], "size": "text"}}, False, "size is required no more"),
        ({"aisp-trace/x/1": {**BASE["aisp-trace/x/1"], "must": "text, required"}}, True, "must (text, required) is new"),
        ({}, True, "aisp-trace/x/1 went missing"),
        ({**BASE, "aisp-trace/y/1": {"a": "text, required"}}, False, f"aisp-trace/y/1 {NEW}"),
        ({"aisp-trace/x/2": {"rows": "list"}}, False, f"aisp-trace/x/2 {NEW}"),
    ],
)  # fmt: skip
def test_a_difference_says_what_it_demands(after: Snapshot, breaks: bool, said: str) -> None:
    (change,) = changes("documents", BASE, after)
    assert change.breaks is breaks
    assert said in change.sentence
    assert "CHANGELOG.md" in change.sentence
    if breaks:
        assert BROKEN["documents"] in change.sentence and "aisp-trace/x/2" in change.sentence


def test_what_lies_in_something_new_is_said_once() -> None:
    inner = {"found": "list", "found[].name": "text, required"}
    (change,) = changes("answers", BASE, {"aisp-trace/x/1": {**BASE["aisp-trace/x/1"], **inner}})
    assert (change.breaks, change.word) == (False, "found")
    (change,) = changes("answers", BASE, {"aisp-trace/x/1": {"size": "text, required"}})
    assert (change.breaks, change.word) == (True, "rows")


def test_equal_snapshots_differ_in_nothing() -> None:
    assert changes("answers", BASE, BASE) == []


REFRESH = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("contracts", "scripts/contracts.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
from pathlib import Path
folder, section, today = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
script.FOLDER, script.newest_section, script.everything = folder, lambda: section, lambda: {"commands": today}
sys.exit(script.main(sys.argv[4:]))
"""


def refresh(folder: Path, section: str, options: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """``scripts/contracts.py`` on the snapshots in `folder`, for a code whose only command has `options`."""
    found = json.dumps({"aisp-trace x": options})
    line = [sys.executable, "-P", "-c", REFRESH, str(folder), section, found, *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_refresh_needs_the_changelog(tmp_path: Path) -> None:
    (tmp_path / "commands.json").write_text('{"aisp-trace x": {"--a": "switch"}}')
    done = refresh(tmp_path, "- `--beetle` is faster.", {"--a": "switch", "--bee": "switch"}, "--write")
    assert done.returncode == 1
    assert "CHANGELOG.md does not name `--bee`" in done.stdout
    assert json.loads((tmp_path / "commands.json").read_text()) == {"aisp-trace x": {"--a": "switch"}}


@pytest.mark.nightly
def test_a_refresh_needs_the_changelog_and_does_not_break_anybody_by_accident(tmp_path: Path) -> None:
    file, old, more = tmp_path / "commands.json", {"--a": "switch"}, {"--a": "switch", "--bee": "switch"}
    assert refresh(tmp_path, "", old, "--write").returncode == 0, "the first snapshot changes nothing for anybody"
    done = refresh(tmp_path, "- `--beetle` is faster.", more, "--write")
    assert done.returncode == 1
    assert "CHANGELOG.md does not name `--bee`" in done.stdout
    assert json.loads(file.read_text()) == {"aisp-trace x": old}
    done = refresh(tmp_path, "- `x --bee` buzzes.", more, "--write")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "wrote tests/contracts/commands.json")
    done = refresh(tmp_path, "- `x --bee` buzzes.", more, "--write")
    assert (done.returncode, done.stdout) == (0, "nothing to write: the snapshots are those of the code\n")
    assert json.loads(file.read_text()) == {"aisp-trace x": more}
    done = refresh(tmp_path, "- `--bee` is gone.", old, "--write")
    assert done.returncode == 1
    assert "--bee (switch) went missing. Scripts that use it break" in done.stdout
    assert json.loads(file.read_text()) == {"aisp-trace x": more}
    assert refresh(tmp_path, "- Nothing.", old, "--write", "--breaking").returncode == 1
    assert refresh(tmp_path, "- `--bee` is gone.", old, "--write", "--breaking").returncode == 0
    assert refresh(tmp_path, "", old, "--check").returncode == 0
    assert refresh(tmp_path, "", more, "--check").returncode == 1
