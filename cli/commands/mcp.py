"""``aisp-trace mcp``: a server of the Model Context Protocol over the recordings below a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ...traces.errors import UsageError
from ..app import examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "mcp aisp-runs  # what a client starts as its server",
    )
)
def run(
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="the folder whose runs and traces may be read, and nothing else")
    ],
) -> int:
    """Serve the recordings below a folder to a client of the Model Context Protocol.

    Its tools are analyze, compare, check and predict, with the documents that --json prints, and recordings, which lists what
    there is. It speaks on standard input and output until the client leaves, writes nothing, and answers no path outside of ROOT.
    Needs the official SDK: pip install 'aisp-trace[mcp]'.
    """
    try:
        from ..serving import make_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise UsageError("this command needs the MCP SDK; pip install 'aisp-trace[mcp]'") from error
    server = make_server(root)
    os.chdir(root)
    server.run()
    return 0
