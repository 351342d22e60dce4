"""The commands of the program and their actions, for tests that walk them all."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from aisp_trace.cli.main import COMMANDS


@dataclass(frozen=True, slots=True)
class Action:
    """One command, or one action of a command: the words that name it, and how typer knows it."""

    words: tuple[str, ...]
    app: typer.Typer
    info: typer.models.CommandInfo

    def __str__(self) -> str:
        return " ".join(self.words)

    @property
    def function(self) -> Any:
        """What runs."""
        return self.info.callback

    @property
    def parser(self) -> Any:
        """The parser that the typer installed here makes of it."""
        found: Any = typer.main.get_command(self.app)
        return found.get_command(None, self.words[1]) if len(self.words) > 1 else found


def actions() -> Iterator[Action]:
    """Every command in the order of the help, one of several actions as these."""
    for name in COMMANDS:
        app: typer.Typer = importlib.import_module(f"aisp_trace.cli.commands.{name}").app
        several = len(app.registered_commands) > 1
        for info in app.registered_commands:
            assert info.callback is not None
            yield Action((name, info.name or info.callback.__name__) if several else (name,), app, info)
