"""Command lines read by whatever typer the interpreter has, for ``tests/test_typers.py``; nothing is run.

python -P -m aisp_trace.tests.builders.parsing < LINES > ANSWERS

LINES is a JSON list of command lines, each a list of words. ANSWERS is one of objects: the exit code, what was written to
stdout and stderr, and the arguments that the command's function was called with, as `repr` (null: it was not called).
Needs the standard library and what the command line itself needs, so that it runs where nothing else is installed.
"""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from aisp_trace.cli import main
from aisp_trace.tests.builders.commands import actions

calls: list[dict[str, str]] = []


def recorded(function: Callable[..., Any]) -> Callable[..., None]:
    """A function with the signature of `function` that only notes its arguments."""

    @functools.wraps(function)
    def note(**arguments: Any) -> None:
        calls.append({name: repr(value) for name, value in arguments.items() if name != "ctx"})

    return note


def answer(words: list[str]) -> dict[str, Any]:
    """What the command line makes of `words`."""
    calls.clear()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main.main(words)
    return {
        "code": code,
        "out": out.getvalue(),
        "err": err.getvalue(),
        "arguments": dict(calls[0]) if calls else None,
    }


def replace_commands() -> None:
    """Have every command record its arguments instead of running."""
    for action in actions():
        action.info.callback = recorded(action.function)


if __name__ == "__main__":
    replace_commands()
    json.dump([answer(words) for words in json.load(sys.stdin)], sys.stdout)
