"""Make docs/commands.md, the reference of the command line, from the help that every command prints.

python -P scripts/commands.py --check|--write

`--check` leaves 1 where the page is not what the commands say, as tests/test_docs.py does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from aisp_trace.cli.main import COMMANDS, app

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "commands.md"

HEAD: Final = """# Commands

What `aisp-trace COMMAND --help` prints, command by command. Unknown options are errors, and every command has `--help`,
`--quiet` and `--color`. `python -P scripts/commands.py --write` makes this page.
"""

WIDTH: Final = 90
"""Columns of help: what fits beside the table of contents on a laptop."""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for words, text in helps():
        parts.append(f"{'##' if len(words) < 2 else '###'} aisp-trace {' '.join(words)}".rstrip())
        parts.append(f"```text\n{text}\n```")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


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
    """Compare the page with the commands, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="leave 1 if the page is out of date")
    what.add_argument("--write", action="store_true", help="write the page")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE} is not what the commands print; refresh it: python -P scripts/commands.py --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
