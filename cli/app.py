"""What every command shares: how it is declared, how its help ends, and how a wrong word is answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import cache
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from ..report.terminal.look import COLOURS, LOOK
from ..traces.errors import UsageError
from ..traces.faults import nearest
from .help import WIDEST, Explained, ExplainedGroup
from .mistakes import PROGRAM, extra_words, for_extra, for_option
from .other_words import for_action, for_foreign_option, for_programs
from .programs import runnable, split

WORDS: Final[ContextVar[tuple[str, ...]]] = ContextVar("WORDS", default=())
"""The words behind ``aisp-trace`` that are being run, whoever gave them."""


def _colour(choice: str | None) -> None:
    if choice is None:
        return
    if choice not in COLOURS:
        raise UsageError(
            f"--color {choice!r} does not exist{nearest(choice, COLOURS) or '; say ' + ', '.join(COLOURS)}"
        )
    LOOK.colour = choice


def _quiet(asked: bool) -> None:
    LOOK.quiet |= asked


def one_of(*values: str) -> dict[str, Any]:
    """What an option is declared with that takes one of `values`: they stand in its help, and the shell completes them."""
    return {"metavar": "|".join(values), "autocompletion": lambda incomplete: _beginning(values, incomplete)}


def _beginning(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


@cache
def common_options() -> list[Any]:
    """The options that every command has, and the program before the command; what they say is kept in `LOOK`."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def holder(
        quiet: Annotated[
            bool,
            typer.Option(
                "--quiet",
                "-q",
                help="Print results and errors only.",
                callback=_quiet,
                is_eager=True,
            ),
        ] = False,
        color: Annotated[
            str | None,
            typer.Option(
                "--color",
                **one_of(*COLOURS),
                help="Colour; auto: on a terminal.",
                callback=_colour,
                is_eager=True,
            ),
        ] = None,
    ) -> None:
        raise AssertionError("holds the options alone")

    made = [p for p in typer.main.get_command(app).params if p.name in COMMON]
    for parameter in made:
        parameter.expose_value = False
    return made


COMMON: Final = ("quiet", "color")


class Command(Explained, TyperCommand):
    """A command: with the options that all have."""

    common = COMMON

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *common_options()]


class Group(ExplainedGroup, TyperGroup):
    """Commands, or actions of one: without a word it shows its help and leaves 2, an unknown one names the nearest."""

    noun: str = "action"
    common = COMMON

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *common_options()]

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
            raise UsageError(self.unknown(args, names, ctx.command_path))
        return super().resolve_command(ctx, args)

    def unknown(self, args: list[str], names: list[str], path: str) -> str:
        """That nothing is called as the first of `args`, and what might be meant."""
        return unknown(args[0], self.noun, names, path)


class WithForeignCommand(Command):
    """A command with a command line of the user's in it, which is not parsed and becomes ``ctx.args``: what stands after ``--``,
    else what begins with a program of the user's (``programs.py``)."""

    after_usage = "[-- COMMAND ...]"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the user's own words; raises `UsageError` if nothing stands after ``--``."""
        at = args.index("--") if "--" in args else len(args)
        takes = {word: not getattr(one, "is_flag", True) for one in self.params for word in one.opts}
        ours, foreign = split(args[:at], takes)
        if foreign:  # dashes right behind a program only part it from its words
            foreign += args[at + 1 :] if len(ours) == at - 1 else args[at:]
        else:
            foreign = runnable(args[at + 1 :])
            if at < len(args) and not foreign:
                raise UsageError(f"`{ctx.command_path} --` names no command; write it after the two dashes")
        super().parse_args(ctx, ours)
        ctx.args = foreign
        return foreign


class App(typer.Typer):
    """A `typer.Typer` whose commands are ours."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **given: Any
    ) -> Callable[..., Any]:
        """As typer's."""
        return super().command(name, cls=cls or Command, **given)


def new_app(help_text: str | None = None) -> typer.Typer:
    """The `typer.Typer` of one command, or of a command with several actions (``help_text``).

    Help is plain text: it is read in pipes and logs too, and looks the same under every typer that is allowed.
    """
    return App(
        cls=Group,
        help=help_text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )


SETTINGS: Final = {"help_option_names": ["--help", "-h"], "max_content_width": WIDEST}


def examples(*lines: str) -> str:
    """The end of a command's help: command lines without the program's name, each with what it does after ``#``."""
    return "\n".join(["\b", "Examples:", *(f"  {PROGRAM} {line}" for line in lines)])


def sentence(error: Any) -> str:
    """What typer found wrong with a command line, as one sentence with a remedy."""
    context = error.ctx
    path = _path_of_words() if context is None else context.command_path
    name = path.removeprefix(PROGRAM).strip()
    if context is not None and (meant := for_programs(WORDS.get())):
        return meant
    if type(error).__name__ == "NoSuchOption":
        known = [word for parameter in context.command.params for word in parameter.opts if word.startswith("-")]
        foreign = for_foreign_option(error.option_name, context, WORDS.get())
        hint = (
            foreign
            or for_option(error.option_name, context, WORDS.get())
            or nearest(error.option_name, [*known, "--help"])
        )
        what = f"no option{f' of {name}' if name else ''} is called {error.option_name!r}"
        if not name and (command := next((word for word in WORDS.get() if not word.startswith("-")), None)):
            hint = f"; options follow the command, see `{PROGRAM} {command} --help`"
    else:
        hint, text = "", " ".join(error.format_message().split()).rstrip(".")
        if context is not None and (extra := extra_words(text)) is not None:
            return for_extra(extra, context.command, path, WORDS.get())
        for pattern, words in _PLAINER:
            text = pattern.sub(words, text)
        what = text[:1].lower() + text[1:]
    return what + (hint or f"; see `{path} --help`")


def _path_of_words() -> str:
    """The program and the command that was typed, where typer does not say which it was."""
    return " ".join([PROGRAM, *[word for word in WORDS.get() if not word.startswith("-")][:1]])


_PLAINER: Final = (
    (re.compile(r"(\S+) is not in the range x>=(\S+)$"), r"\1 is too small; the least is \2"),
    (re.compile(r"Input should be a valid integer.*$"), "it is not a whole number"),
    (re.compile(r"Input should be a valid number.*$"), "it is not a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)$"), r"it is too small; the least is \1"),
)
"""How typers with click's types and with pydantic's refuse a number, and how a person would."""


def unknown(word: str, noun: str, names: Iterable[str], path: str) -> str:
    """That no command or action is called `word`, and which might be meant."""
    name = path.removeprefix(PROGRAM).strip()
    owner = f" of {name}" if name else ""
    hint = for_action(word, name) or nearest(word, names) or f"; {noun}s are {', '.join(names)}"
    return f"no {noun}{owner} is called {word!r}{hint}"


def usage_error() -> type[Exception]:
    """What typer raises for a wrong command line; newer versions bring their own copy of click."""
    found: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    return found
