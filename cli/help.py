"""The help of every command, the same under each typer that is allowed: names as people type them, defaults, whole sentences.

typer's own help shows how it stores a value (``<list[Path]>``, ``[x>=1]``), differs from version to version, and cuts sentences
where the line ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

WIDEST: Final = 100
"""Columns of help on a wide terminal: longer lines of prose are hard to read."""

SENTENCE: Final = 1000
"""Longer than any command's first sentence."""


class Explained:
    """For a command or a group of typer: usage, arguments and options in the words they were declared with."""

    after_usage = ""
    """What the usage line ends with, beside the arguments."""

    common: Sequence[str] = ()
    """Options that every command has; they follow its own."""

    def collect_usage_pieces(self: Any, ctx: Any) -> list[str]:
        """``[OPTIONS]``, each argument, and what follows them."""
        pieces = ["[OPTIONS]", *(_in_usage(p) for p in self.get_params(ctx) if p.param_type_name == "argument")]
        return [*pieces, *([self.after_usage] if self.after_usage else [])]

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """A section for arguments, and one for options."""
        shown = [p for p in self.get_params(ctx) if not getattr(p, "hidden", False)]
        arguments = [(p.metavar, _help(p)) for p in shown if p.param_type_name == "argument"]
        options = [p for p in shown if p.param_type_name == "option"]
        options.sort(key=lambda p: p.name in self.common or p.name == "help")
        for title, rows in (("Arguments", arguments), ("Options", [(_names(p), _help(p)) for p in options])):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class ExplainedGroup(Explained):
    """For a group: its commands, each with the whole first sentence of its help."""

    after_usage = "COMMAND ..."

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Options, then the commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self: Any, ctx: Any, formatter: Any) -> None:
        """A section for the commands, in their order."""
        rows = [(name, self.get_command(ctx, name).get_short_help_str(SENTENCE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _in_usage(argument: Any) -> str:
    """``RUN``, ``[RUN]`` or ``[RUN]...``; several words, such as ``RUN | verify FILE``, say themselves how many there are."""
    name: str = argument.metavar
    several = "..." if argument.nargs != 1 and " " not in name else ""
    return f"{name}{several}" if argument.required else f"[{name}]{several}"


def _names(option: Any) -> str:
    """``-o, --output FILE`` or ``--cache / --no-cache``."""
    names = ", ".join(sorted(option.opts, key=lambda name: name.startswith("--")))
    if option.secondary_opts:
        return f"{names} / {', '.join(option.secondary_opts)}"
    return names if option.is_flag or option.metavar is None else f"{names} {option.metavar}"


def _help(parameter: Any) -> str:
    """A sentence without its full stop, whichever way it was written, and a remark."""
    text = (parameter.help or "").removesuffix(".")
    return " ".join([text[:1].upper() + text[1:], *_remark(parameter)]).strip()


def _remark(parameter: Any) -> Iterator[str]:
    """``[default: 20]`` or ``[required]``."""
    if parameter.required:
        if parameter.param_type_name == "option":
            yield "[required]"
        return
    value = parameter.default
    if not getattr(parameter, "show_default", True) or callable(value) or value in (None, "", ()):
        return
    if isinstance(value, bool):
        if parameter.secondary_opts:
            yield f"[default: {(parameter.opts if value else parameter.secondary_opts)[0].removeprefix('--')}]"
        return
    yield f"[default: {f'{value:g}' if isinstance(value, float) else value}]"
