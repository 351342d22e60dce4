"""``aisp-trace kernels``: CUDA kernels for named tasks, as sources that stand alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...report.terminal.console import say_lines
from ..app import examples, new_app
from ..options import Force

app = new_app("Generate CUDA kernels that check themselves.")


def task_names(incomplete: str) -> list[str]:
    """The tasks whose names begin so, for the shell's completion."""
    from ...kernels.tasks import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


@app.command(epilog=examples("kernels emit rmsnorm -o test.cu", "kernels emit softmax -o test.cu --set threads=512"))
def emit(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="a name from `aisp-trace kernels list`", show_default=False, autocompletion=task_names
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="the source to write, NAME.cu; - is standard output",
            show_default=False,
        ),
    ],
    arch: Annotated[str, typer.Option("--arch", metavar="sm_NN", help="the GPU's architecture")] = "sm_90",
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="a parameter of the task; may be repeated", show_default=False
        ),
    ] = None,
    compiling: Annotated[bool, typer.Option("--compile/--no-compile", help="try the compiler on it")] = True,
    force: Force = False,
) -> None:
    """Write a kernel as one CUDA file, with a Makefile beside it.

    `nvcc FILE` makes a program that compares the kernel with double precision; as a shared library the same file has a C
    interface, which its head explains. The same command writes the same bytes. A file that was edited since, and a Makefile
    of yours, are replaced with --force alone.

    It is compiled by nvcc; where there is none, NVRTC (the extra `kernels`) compiles the device part.
    """
    from ..emitting import asked, emit_files

    emit_files(asked(task, arch, values or ()), output, force, compiling)


@app.command(name="list", epilog=examples("kernels list"))
def list_tasks() -> None:
    """Show the tasks, their element types and their parameters."""
    from ...kernels.tasks import NAMES, find
    from ...report.terminal.kernels import tasks_text

    say_lines(tasks_text([find(name) for name in NAMES]))
