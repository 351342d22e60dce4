"""What every command shares: how it is declared, how its help ends, and how a wrong word is answered."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from ..traces.errors import UsageError
from ..traces.faults import nearest
from .programs import split

PROGRAM: Final = "aisp-trace"

WORDS: Final[ContextVar[tuple[str, ...]]] = ContextVar("WORDS", default=())
"""The words behind ``aisp-trace`` that are being run, whoever gave them."""


class Group(TyperGroup):
    """Commands, or actions of one: without a word it shows its help and leaves 2, an unknown one names the nearest."""

    noun: str = "action"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where there is no word at all, and leave 2."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with; raises `UsageError` if there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names:
            raise UsageError(unknown(args[0], self.noun, names, ctx.command_path))
        return super().resolve_command(ctx, args)


class WithForeignCommand(TyperCommand):
    """A command with a command line of the user's in it, which is not parsed and becomes ``ctx.args``: what stands after ``--``,
    else what begins with a program of the user's (``programs.py``)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the user's own words; raises `UsageError` if nothing stands after ``--``."""
        at = args.index("--") if "--" in args else len(args)
        takes = {word: not getattr(one, "is_flag", True) for one in self.params for word in one.opts}
        ours, foreign = split(args[:at], takes)
        if foreign:
            foreign += args[at:]
        else:
            foreign = args[at + 1 :]
            if at < len(args) and not foreign:
                raise UsageError(f"`{ctx.command_path} --` names no command; write it after the two dashes")
        super().parse_args(ctx, ours)
        ctx.args = foreign
        return foreign


def new_app(help_text: str | None = None) -> typer.Typer:
    """The `typer.Typer` of one command, or of a command with several actions (``help_text``).

    Help is plain text: it is read in pipes and logs too, and looks the same under every typer that is allowed.
    """
    return typer.Typer(
        cls=Group,
        help=help_text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP_OPTIONS,
    )


HELP_OPTIONS: Final = {"help_option_names": ["--help", "-h"]}


def examples(*lines: str) -> str:
    """The end of a command's help: command lines without the program's name, each with what it does after ``#``."""
    return "\n".join(["\b", "Examples:", *(f"  {PROGRAM} {line}" for line in lines)])


def sentence(error: Any) -> str:
    """What typer found wrong with a command line, as one sentence with a remedy."""
    context = error.ctx
    path = PROGRAM if context is None else context.command_path
    name = path.removeprefix(PROGRAM).strip()
    if type(error).__name__ == "NoSuchOption":
        known = [word for parameter in context.command.params for word in parameter.opts if word.startswith("-")]
        hint = nearest(error.option_name, [*known, "--help"])
        what = f"no option{f' of {name}' if name else ''} is called {error.option_name!r}"
        if not hint and not name:
            hint = f"; options follow the command, see `{PROGRAM} --help`"
    else:
        hint, text = "", " ".join(error.format_message().split()).rstrip(".")
        what = text[:1].lower() + text[1:]
    return what + (hint or f"; see `{path} --help`")


def unknown(word: str, noun: str, names: Iterable[str], path: str) -> str:
    """That no command or action is called `word`, and which might be meant."""
    name = path.removeprefix(PROGRAM).strip()
    owner = f" of {name}" if name else ""
    hint = nearest(word, names) or f"; {noun}s are {', '.join(names)}"
    return f"no {noun}{owner} is called {word!r}{hint}"


def usage_error() -> type[Exception]:
    """What typer raises for a wrong command line; newer versions bring their own copy of click."""
    found: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    return found
