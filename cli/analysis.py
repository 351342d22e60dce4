"""What ``aisp-trace analyze`` does with its options, and the command lines of it that need no parser.

Time counts here: an analysis of a hundred thousand kernels takes less than a second, start-up included. So nothing is imported
before it is needed, and typer not at all for ``analyze FILE --json``: with the validation library that its newer versions
bring it takes a tenth of a second to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .console import print_json

SWITCHES: Final[Mapping[str, Mapping[str, bool]]] = {
    "--json": {"as_json": True},
    "--cache": {"cache": True},
    "--no-cache": {"cache": False},
}
"""Options without a value, as `commands.analyze.run` declares them; tests compare the two."""


def understood(args: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of `show` that `args` stand for, if those are only files and `SWITCHES` written out.

    Null for everything else, right or wrong: that is the parser's to read, and to explain.
    """
    files: list[Path] = []
    found: dict[str, Any] = {"sources": files}
    for word in args:
        if word in SWITCHES:
            found.update(SWITCHES[word])
        elif word and not word.startswith("-"):
            files.append(Path(word))
        else:
            return None
    return found


def show(
    sources: Sequence[Path] | None,
    *,
    window: str | None = None,
    attribution: str = "process",
    domain: str | None = None,
    stages: str | None = None,
    depth: int | None = None,
    below: str | None = None,
    gaps: int = 20,
    cache: bool = True,
    as_json: bool = False,
) -> None:
    """Analyse `sources` (none: the newest run) and print the tables, or one JSON document."""
    from .sources import analyses_of

    given: Sequence[Path | None] = sources or [None]
    analyses = [
        analysis
        for source in given
        for analysis in analyses_of(
            source,
            window=window,
            attribution=attribution,
            domain=domain,
            gaps=gaps,
            stages=stages,
            depth=depth,
            below=below,
            cache=cache,
        )
    ]
    if as_json:
        from ..analyze.document import document

        print_json(document(analyses))
        return
    from .tables import print_analysis

    for analysis in analyses:
        print_analysis(analysis)
