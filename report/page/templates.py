"""Markup from values: the one place where text becomes HTML, by the templates beside this module.

Autoescape is on, and what cannot be seen is written out (`markup.visible`): names in a trace may hold markup, control characters,
bidirectional overrides, lone surrogates, or megabytes of text, of which no more than `LONGEST` characters are ever shown.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..palette import css_fill
from .blocks import Block, Section
from .markup import Html, clip, escape, visible
from .sides import clipped

LONGEST: Final = 2000
"""Characters of any one text: a command line may be long, a name of megabytes shows both its ends."""


@cache
def environment() -> Environment:
    """The templates of the page."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    made.filters |= {"name": clipped, "fill": css_fill, "sentence": sentence}
    return made


def _seen(value: Any) -> Any:
    """Plain text with what hides written out, and its middle left out where it is very long; markup as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(clip(value, LONGEST))
    return value


def sentence(text: str) -> Html:
    """A sentence whose commands and options stand between backticks, as the terminal prints them."""
    return Html(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(clip(text, LONGEST))))


def fill(name: str, **values: Any) -> Html:
    """Template `name` with `values`."""
    return Html(environment().get_template(name).render(values))


def html_of(part: Section | Block) -> Html:
    """One section or block as markup."""
    macros: Any = environment().get_template("blocks.html").module
    return Html(macros.section(part) if isinstance(part, Section) else macros.show(part))
