"""``aisp-trace kernels``: CUDA kernels for named tasks, as sources that stand alone, and verdicts on kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...kernels.artifacts import FOLDER
from ...report.terminal.console import print_json, progress, say, say_lines
from ..app import examples, new_app
from ..options import Artifacts, Force, Json

app = new_app("Generate CUDA kernels that check themselves, and verify kernels of any origin.")


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
    artifacts: Artifacts = FOLDER,
    force: Force = False,
) -> None:
    """Write a kernel as one CUDA file, with a Makefile beside it.

    `nvcc FILE` makes a program that compares the kernel with double precision; as a shared library the same file has a C
    interface, which its head explains. The same command writes the same bytes. A file that was edited since, and a Makefile
    of yours, are replaced with --force alone.

    It is compiled by nvcc; where there is none, NVRTC (the extra `kernels`) compiles the device part. What nvcc says of its
    registers is kept with the source below --artifacts.
    """
    from ..emitting import asked, emit_files

    emit_files(asked(task, arch, values or ()), output, force, compiling, artifacts)


@app.command(name="list", epilog=examples("kernels list"))
def list_tasks() -> None:
    """Show the tasks, their element types and their parameters."""
    from ...kernels.tasks import NAMES, find
    from ...report.terminal.kernels import tasks_text

    say_lines(tasks_text([find(name) for name in NAMES]))


@app.command(
    epilog=examples(
        "kernels verify test.cu --task rmsnorm",
        "kernels verify mine.py --task saxpy --shape count=65536",
        "kernels verify mine.py --task rmsnorm --device cpu --json",
    )
)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the candidate, a .cu or .py file", show_default=False)],
    task: Annotated[str, typer.Option("--task", metavar="NAME", help="what it computes")],
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="element type; default: the task's first")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=N,...", help="a shape to time; repeats; default: the task's first"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="cuda|cpu", help="default: cuda if there is a GPU")
    ] = None,
    calls: Annotated[int, typer.Option("--calls", metavar="N", min=1, help="timed calls of each shape")] = 20,
    allow_library: Annotated[
        bool, typer.Option("--allow-library", help="a .py candidate may call kernels of libraries")
    ] = False,
    sanitizer: Annotated[
        bool, typer.Option("--sanitizer/--no-sanitizer", help="run compute-sanitizer where it is installed")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="the most that its process may take")
    ] = 900.0,
    artifacts: Artifacts = FOLDER,
    as_json: Json = False,
) -> int:
    """Does a kernel compute what its task says, and how long does it take by its trace?

    The candidate runs in a process of its own, with fresh inputs for each call, and is recorded. Its outputs are compared
    with float64 where it cannot see it, and the recording decides about its time. Leaves 0 if it is verified, 1 if it is
    refused, 3 if nothing could be recorded. A verdict that a GPU gave is kept with source and recording below --artifacts, and
    the guard asks there. docs/kernels.md says what is checked and what is not.
    """
    from ...kernels.verify.evidence import Asked
    from ...report.terminal.kernel_verification import print_verification
    from ..verifying import verify_and_keep

    asked = Asked(file, task, dtype or "", shape or (), device, calls, allow_library, sanitizer, timeout)
    found, kept = verify_and_keep(asked, artifacts)
    if as_json:
        print_json(found.document())
        if kept is not None:
            progress(f"artefacts: {kept}")
    else:
        print_verification(found)
        if kept is not None:
            say(f"artefacts: {kept}")
    return found.exit_code
