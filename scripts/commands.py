"""Make the reference of the command line from the help that every command prints: docs/commands.md, and a page a command.

python -P scripts/commands.py --check|--write

`--check` leaves 1 where the pages are not what the commands say, as tests/test_docs.py does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from aisp_trace.cli.main import COMMANDS, app

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"

HEAD: Final = """# Commands

A page a command, with what its `--help` prints. Every command has `--help`, `--quiet` and `--color`; unknown options are errors.
`aisp-trace --install-completion`, once, lets your shell complete commands and options; then open a new terminal.
"""

MADE_BY: Final = "`python -P scripts/commands.py --write` makes these pages."

GUIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "list": ("case_studies",),
    "capture": ("capture", "change", "recorders"),
    "analyze": ("trace", "terminal", "definitions/index"),
    "ranks": ("scale",),
    "compare": ("change",),
    "predict": ("headroom",),
    "check": ("verdicts", "ci"),
    "accept": ("ci", "verdicts"),
    "expectations": ("verdicts",),
    "report": ("report",),
    "bundle": ("personal",),
    "export": ("export",),
    "kernels": ("kernels",),
    "mcp": ("mcp",),
    "doctor": ("troubleshooting", "recorders"),
}
"""Command -> pages that show it at work, the first that one should read first."""

WIDTH: Final = 90
"""Columns of help: what fits beside the table of contents on a laptop."""


def pages() -> dict[str, str]:
    """Every page by its path below docs/."""
    (_, overall), *others = helps()
    made = {"commands.md": ""}
    for name in COMMANDS:
        own = [(words, text) for words, text in others if words[0] == name]
        parts = [f"# aisp-trace {name}", _guides(name), _block(own[0][1])]
        for words, text in own[1:]:
            parts += [f"## aisp-trace {' '.join(words)}", _block(text)]
        made[f"commands/{name}.md"] = "\n\n".join(parts) + "\n"
    rows = [f"| [{name}](commands/{name}.md) | {sentence} |" for name, sentence in _sentences().items()]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    made["commands.md"] = "\n\n".join([HEAD.strip(), table, "## aisp-trace", _block(overall), MADE_BY]) + "\n"
    return made


def _sentences() -> dict[str, str]:
    """The first sentence of each command's help."""
    program: Any = typer.main.get_command(app)
    return {name: program.get_command(None, name).get_short_help_str(1000) for name in COMMANDS}


def _guides(name: str) -> str:
    """Links to the pages that show the command at work, by their titles."""
    links = []
    for guide in GUIDES[name]:
        title = (DOCS / f"{guide}.md").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        links.append(f"[{title}](../{guide}.md)")
    return f"At work: {', '.join(links)}. [All commands](../commands.md)."


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def outdated() -> list[str]:
    """Paths below docs/ that are not what the commands say: changed, missing, or of no command."""
    made = pages()
    files = {file.relative_to(DOCS).as_posix(): file for file in [DOCS / "commands.md", *DOCS.glob("commands/*.md")]}
    now = {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}
    return sorted(name for name in made.keys() | now.keys() if made.get(name) != now.get(name))


def helps() -> Iterator[tuple[tuple[str, ...], str]]:
    """The words of the program, of each command and of each action, and the help of it."""
    program: Any = typer.main.get_command(app)
    with program.make_context("aisp-trace", [], resilient_parsing=True, terminal_width=WIDTH) as outer:
        yield (), _plain(program.get_help(outer))
        for name in COMMANDS:
            yield from _below(program.get_command(outer, name), outer, (name,))


def _below(command: Any, outer: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    with command.make_context(words[-1], [], parent=outer, resilient_parsing=True) as context:
        yield words, _plain(command.get_help(context))
        for name in getattr(command, "commands", {}):
            yield from _below(command.get_command(context, name), context, (*words, name))


def _plain(text: str) -> str:
    return re.sub(r" +$", "", text, flags=re.MULTILINE).strip()


def main() -> int:
    """Compare the pages with the commands, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="leave 1 if a page is out of date")
    what.add_argument("--write", action="store_true", help="write the pages")
    asked = parser.parse_args()
    old = outdated()
    if asked.write:
        made = pages()
        (DOCS / "commands").mkdir(exist_ok=True)
        for name in old:
            if name in made:
                (DOCS / name).write_text(made[name], encoding="utf-8")
                print(f"wrote docs/{name}")
            else:
                (DOCS / name).unlink()
                print(f"removed docs/{name}")
        return 0
    for name in old:
        print(f"docs/{name} is out of date; refresh it: python -P scripts/commands.py --write", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
