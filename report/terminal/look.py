"""How what is printed looks: in colour or not, with remarks or without, as the command line and the environment ask.

    --color always | never       as it says, for every stream
    --color auto (the default)   colour on a terminal, unless NO_COLOR is set to anything or TERM is dumb; never in a pipe or file

One value of the process, because a line may be printed from any thread and any depth.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:  # imported when something is printed in colour
    from rich.console import Console

AUTO, ALWAYS, NEVER = "auto", "always", "never"
COLOURS: Final = (AUTO, ALWAYS, NEVER)

PLAIN_TERMINALS: Final = ("dumb", "unknown")
"""Values of TERM that obey no escape code; an unset one is taken for a terminal's that does, as programs do on consoles."""


@dataclass(slots=True)
class Look:
    """What is asked for. `quiet`: neither progress nor remarks."""

    colour: str = AUTO
    quiet: bool = False

    def reset(self) -> None:
        """As at the program's start."""
        self.colour, self.quiet = AUTO, False


LOOK: Final = Look()


def is_terminal(stream: Any) -> bool:
    """Whether a person watches `stream`, on something that can move its cursor."""
    if stream is None or os.environ.get("TERM", "").lower() in PLAIN_TERMINALS:
        return False
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no file, or closed
        return False


def coloured(stream: Any) -> bool:
    """Whether what goes to `stream` is coloured."""
    if LOOK.colour != AUTO:
        return LOOK.colour == ALWAYS
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def hue(name: str) -> str:
    """The colour of a kind of work or a family of idle time, as ``#rrggbb``, for the terminal's ground: dark unless COLORFGBG,
    which konsole, rxvt and others set, ends in 7 or 15."""
    from ..palette import colour  # which needs polars: recording must not

    found = colour(name)
    return found.light if os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else found.dark


def console_for(stream: Any, width: int, *, colour: bool | None = None) -> Console:
    """A rich console that writes to `stream` in lines of `width` columns; null: `colour` as `coloured` has it.

    Nothing that rich guesses by itself (FORCE_COLOR, COLUMNS, notebooks) plays a part.
    """
    from rich.console import Console

    wanted = coloured(stream) if colour is None else colour
    return Console(
        file=stream,
        width=width,
        force_terminal=wanted or is_terminal(stream),
        force_interactive=is_terminal(stream),
        force_jupyter=False,
        no_color=not wanted,
        color_system=_system() if wanted else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _system() -> Literal["standard", "256", "truecolor"]:
    """How many colours the terminal has; where nothing says it 256, which every emulator in use shows."""
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "truecolor"
    return "standard" if os.environ.get("TERM", "") in ("linux", "ansi") else "256"
