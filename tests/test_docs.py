"""The pages for people: links lead somewhere, the reference has every command, blocks run, quoted sentences are the program's."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from aisp_trace.cli.main import main
from aisp_trace.tests.builders.commands import Action, actions
from aisp_trace.tests.builders.pages import DOCS, PAGES, ROOT, broken, links, named
from aisp_trace.tests.patience import PATIENCE_S

SENTENCES: Final = ("analyze", "capture", "cli", "expectations", "report", "traces")
"""Folders whose modules say what the page on troubleshooting quotes."""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "link", ["gone.md", "verdicts.md#no-such-heading", "#nowhere", "../gone.py", "images/gone.png"]
)
def test_a_broken_link_would_be_found(link: str) -> None:
    assert broken(DOCS / "start.md", f"# Here\n\nSee [this]({link}).\n") == [link]


def test_links_in_code_are_none_and_others_are_found() -> None:
    text = "# A\n\n    [code](gone.md)\n\n`[x](gone.md)` [good](start.md#next) [here](#a)\n\n```\n[y](gone.md)\n```\n"
    assert links(text) == ["start.md#next", "#a"]
    assert broken(DOCS / "trace.md", text) == []


def test_the_site_has_every_page_once() -> None:
    yaml = pytest.importorskip("yaml", reason="no YAML library is installed")
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages_of(site["nav"])) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def pages_of(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from pages_of(inner)


@pytest.mark.parametrize(
    ("page", "text", "shown"),
    [
        ("start.md", "[serve.py](../examples/serve.py) [a](b.md)", "`examples/serve.py` [a](b.md)"),
        ("start.md", "[the rules](../CONTRIBUTING.md)", "the rules (`CONTRIBUTING.md`)"),
        ("start.md", "![p](../x.png)", "![p](../x.png)"),
        ("definitions/work.md", "[a](../verdicts.md#reference)", "[a](../verdicts.md#reference)"),
        ("commands/list.md", "[a](../b.md) [c](../../d.py)", "[a](../b.md) c (`d.py`)"),
        ("definitions/work.md", "[examples/](../../examples/README.md)", "`examples/README.md`"),
    ],
)
def test_a_link_out_of_the_site_becomes_a_path(page: str, text: str, shown: str) -> None:
    where = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert script("docs_links").on_page_markdown(text, page=where) == shown


# --- the reference of the command line --------------------------------------------------------------------------------


def script(name: str) -> Any:
    """The module of a script, which is not part of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_help_prints() -> None:
    assert script("commands").outdated() == [], "refresh it: python -P scripts/commands.py --write"


def test_a_page_of_a_command_that_is_gone_is_found_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = script("commands")
    shutil.copytree(DOCS, tmp_path / "docs")
    monkeypatch.setattr(commands, "DOCS", tmp_path / "docs")
    (tmp_path / "docs" / "commands" / "gone.md").write_text("# aisp-trace gone\n", encoding="utf-8")
    (tmp_path / "docs" / "commands" / "list.md").write_text("# aisp-trace list\n", encoding="utf-8")
    assert commands.outdated() == ["commands/gone.md", "commands/list.md"]
    monkeypatch.setattr(sys, "argv", ["commands.py", "--check"])
    assert commands.main() == 1
    assert capsys.readouterr().err.count("--write") == 2
    monkeypatch.setattr(sys, "argv", ["commands.py", "--write"])
    assert commands.main() == 0 and commands.outdated() == []


@pytest.mark.parametrize("action", list(actions()), ids=str)
def test_every_option_and_argument_is_in_the_reference(action: Action) -> None:
    """Found apart from the script: by walking what typer knows of each command."""
    text = (DOCS / "commands" / f"{action.words[0]}.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^##? aisp-trace {action}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", section))
    parameters = [p for p in action.parser.params if not getattr(p, "hidden", False)]
    options = {word for p in parameters for word in [*p.opts, *p.secondary_opts] if word.startswith("-")}
    assert options and not options - words
    assert all(p.metavar in section for p in parameters if p.param_type_name == "argument")


# --- blocks that run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A block that its page marks by ``<!-- runs -->`` or ``<!-- runs: python -->``."""

    page: str
    line: int
    kind: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(name: str, text: str) -> Iterator[Block]:
    """The marked blocks of a page: the fenced or indented one that follows each mark."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if (mark := re.fullmatch(r"<!-- runs(?:: (\w+))? -->", line)) is None:
            continue
        rest = lines[at + 1 :]
        while rest and not rest[0]:
            rest.pop(0)
        if rest and rest[0].startswith("```"):
            inner = rest[1 : rest.index("```", 1)]
        else:
            end = next((i for i, one in enumerate(rest) if one and not one.startswith("    ")), len(rest))
            inner = [one[4:] for one in rest[:end]]
        yield Block(name, at + 1, mark[1] or "shell", tuple(one for one in inner if one or mark[1]))


BLOCKS: Final = [block for page in PAGES for block in blocks(named(page), page.read_text(encoding="utf-8"))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Looks like a checkout, and is written to instead of it."""
    for name in ("traces", "examples", "expectations"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Printed = Callable[[], str]


def run_shell(block: Block, printed: Printed) -> None:
    """Every command leaves 0 (or what ``# exit N`` behind it says) and prints each line that follows it in the block."""
    prompts = any(line.startswith("$ ") for line in block.lines)
    out = ""
    for line in block.lines:
        if prompts and not line.startswith("$ "):
            assert line in out.splitlines(), f"{block}: not printed: {line}"
            continue
        words = shlex.split(line.removeprefix("$ "), comments=True)
        assert words[0] == "aisp-trace", f"{block}: {line}"
        expected = re.search(r"# exit (\d)", line)
        assert main(words[1:]) == (int(expected[1]) if expected else 0), line
        out = printed()
        assert out


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.usefixtures("folder")
def test_a_block_that_says_it_runs_does(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    assert block.lines
    if block.kind == "python":
        done = subprocess.run(
            [sys.executable, "-P", "-c", "\n".join(block.lines)], capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
    else:
        assert block.kind == "shell"
        run_shell(block, lambda: "".join(capsys.readouterr()))


def test_blocks_are_found_and_a_false_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert {block.page for block in BLOCKS} >= {f"docs/{p}.md" for p in ("start", "trace", "change", "ci", "python")}
    text = "<!-- runs -->\n\n    aisp-trace list\n    aisp-trace nope # exit 2\n\nText\n\n"
    text += "<!-- runs -->\n```\n$ aisp-trace list\nno such line\n```\n"
    good, bad = blocks("x.md", text)
    assert good.lines == ("aisp-trace list", "aisp-trace nope # exit 2")
    run_shell(good, lambda: "".join(capsys.readouterr()))
    with pytest.raises(AssertionError, match="not printed: no such line"):
        run_shell(bad, lambda: "".join(capsys.readouterr()))


# --- sentences that are quoted ----------------------------------------------------------------------------------------


def said() -> str:
    """Every text that the program may print, a line each; what is filled in is a line's end."""
    found = []
    for folder_ in SENTENCES:
        for file in sorted((ROOT / folder_).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            found += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(found)


def quotations(text: str) -> list[str]:
    """The sentences in the first cells of a page's tables, parted where three dots stand for what differs."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [part.strip() for cell in cells for quote in re.findall(r"`([^`]+)`", cell) for part in quote.split("...")]


def test_troubleshooting_quotes_what_the_program_says() -> None:
    quoted = quotations((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    everything = said()
    assert len(quoted) > 40
    assert [part for part in quoted if part not in everything] == []


def test_a_sentence_that_nobody_says_would_be_found() -> None:
    ((one, other), everything) = quotations("| `is damaged (...); feed the zebra` | why |"), said()
    assert one in everything
    assert other not in everything


# --- steps of continuous integration ----------------------------------------------------------------------------------


def steps() -> dict[str, list[dict[str, Any]]]:
    """The shell steps of each workflow and of the composite action that judge and report, in their order."""
    yaml = pytest.importorskip("yaml", reason="no YAML library is installed")
    found = {}
    for file in sorted((ROOT / "examples" / "ci").rglob("*.yml")):
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "runs" in document:
            given = {name: one.get("default", "") for name, one in document["inputs"].items()}
            every = [step | {"inputs": given} for step in document["runs"]["steps"]]
        else:
            (job,) = document["jobs"].values()
            every = job["steps"]
        found[file.relative_to(ROOT / "examples" / "ci").as_posix()] = [
            step for step in every if step.get("name") in ("Check", "Report")
        ]
    return found


def judging() -> list[str]:
    """One file of each set of steps that differ."""
    return list({tuple(step["run"] for step in given): file for file, given in reversed(steps().items())}.values())


def run_step(step: dict[str, Any], folder: Path, **inputs: str) -> int:
    """The step's script as a runner would run it: ``bash -e -o pipefail``, inputs in its variables."""
    given = step.get("inputs", {}) | inputs
    variables = {
        k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: given[m[1]], v) for k, v in step.get("env", {}).items()
    }
    environment = {**os.environ, **variables, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A checkout as a job finds it after its capture: the recorded run is the newest, and its expectations are committed."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "aisp-trace"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m aisp_trace.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    sample = ROOT / "traces" / "samples" / "h200_pipeline_sequential"
    shutil.copytree(sample, tmp_path / "aisp-runs" / sample.name)
    shutil.copytree(
        ROOT / "expectations", tmp_path / "expectations", ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    return tmp_path


def spoil(folder: Path) -> None:
    """Ask for more than the recorded run gave."""
    file = folder / "expectations" / "expectations_h200.json"
    text = file.read_text(encoding="utf-8")
    changed = text.replace('"min": 0.85', '"min": 0.99')
    assert changed != text
    file.write_text(changed, encoding="utf-8")


@needs_bash
@pytest.mark.parametrize("file", judging())
def test_the_steps_of_a_workflow_run(file: str, job: Path) -> None:
    """On the recorded run: 0, with page, JUnit file and summary; 1 once a bound asks for more."""
    given = steps()[file]
    assert {step["name"] for step in given} == {"Check", "Report"}
    assert [run_step(step, job) for step in given] == [0, 0]
    assert 'failures="0"' in (job / "verdicts.xml").read_text(encoding="utf-8")
    assert all((job / name).stat().st_size > 500 for name in ("report.html", "verdicts.md", "summary.md"))
    spoil(job)
    (check,) = [step for step in given if step["name"] == "Check"]
    assert run_step(check, job) == 1


@needs_bash
def test_the_action_takes_its_inputs(job: Path) -> None:
    """A run that is named; one that decides nothing fails, unless the workflow says that it may pass; a lost run is an error."""
    (check,) = [step for step in steps()["gate/action.yml"] if step["name"] == "Check"]
    (job / "none").mkdir()
    nothing = '{"schema": "aisp-trace/expectations/2", "hardware_key": "any", "claims": []}'
    (job / "none" / "expectations_any.json").write_text(nothing, encoding="utf-8")
    (job / "out").mkdir()
    given = {"run": "aisp-runs/h200_pipeline_sequential", "expectations": "none", "output": "out"}
    assert run_step(check, job, **given) == 3
    assert run_step(check, job, **given, undecided="pass") == 0
    assert (job / "out" / "verdicts.xml").is_file()
    assert run_step(check, job, run="gone", undecided="pass") == 2
