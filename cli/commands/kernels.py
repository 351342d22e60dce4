"""``aisp-trace kernels``: CUDA kernels for named tasks, as sources that stand alone, verdicts on kernels, and their times."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...kernels.artifacts import FOLDER
from ...report.terminal.console import print_json, progress, say, say_lines
from ..app import examples, new_app, one_of
from ..options import Artifacts, Force, Json, RunUntrusted

app = new_app("Generate CUDA kernels that check themselves, verify kernels of any origin, and time them.")


def task_names(incomplete: str) -> list[str]:
    """The tasks whose names begin so, for the shell's completion."""
    from ...kernels.tasks import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


@app.command(
    epilog=examples(
        "kernels emit rmsnorm -o test.cu",
        "kernels emit softmax -o test.cu --set threads=512",
        "kernels emit saxpy --generator llm --dry-run",
        "kernels emit saxpy --generator llm --result r.json -o test.cu",
    )
)
def emit(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="a name from `aisp-trace kernels list`", show_default=False, autocompletion=task_names
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="the source to write, NAME.cu; - is standard output",
            show_default=False,
        ),
    ] = None,
    arch: Annotated[str, typer.Option("--arch", metavar="sm_NN", help="the GPU's architecture")] = "sm_90",
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="a parameter of the task; may be repeated", show_default=False
        ),
    ] = None,
    compiling: Annotated[bool, typer.Option("--compile/--no-compile", help="try the compiler on it")] = True,
    generator: Annotated[
        str, typer.Option("--generator", **one_of("template", "llm"), help="who writes it: the template, or a model")
    ] = "template",
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="with llm: element type; default: the task's first")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape", metavar="NAME=N,...", help="with llm: a shape that counts; repeats; default: the task's first"
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", min=1, help="with llm: most rounds of a session (6)")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="SECONDS", min=1, help="with llm: most time of this command (1200)"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", min=1, help="with llm: most tokens of a session (200000)")
    ] = None,
    result: Annotated[
        list[Path] | None,
        typer.Option(
            "--result",
            metavar="FILE",
            help="with llm: what `kernels verify --json` printed elsewhere; repeats",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="with llm: print the first prompt, call no model")] = False,
    run_untrusted: RunUntrusted = False,
    artifacts: Artifacts = FOLDER,
    force: Force = False,
) -> int:
    """Write a kernel as one CUDA file, with a Makefile beside it.

    `nvcc FILE` makes a program that compares the kernel with double precision; as a shared library the same file has a C
    interface, which its head explains. The same command writes the same bytes. A file that was edited since, and a Makefile
    of yours, are replaced with --force alone.

    It is compiled by nvcc; where there is none, NVRTC (the extra `kernels`) compiles the device part. What nvcc says of its
    registers is kept with the source below --artifacts.

    With --generator llm a model writes the kernels, asked at OPENAI_BASE_URL with OPENAI_API_KEY for OPENAI_MODEL. It hears
    what the compiler, the verifier and the trace said. With --run-untrusted its kernels run here, on a GPU, and the fastest
    verified one is written; else the first that compiles, to be verified elsewhere. Exits with 3 where nothing is verified yet.
    """
    from ..emitting import asked, emit_files, only_for_a_model

    what = asked(task, arch, values or ())
    if generator == "llm":
        from ...kernels.llm.loop import Bounds
        from ..generating import Wanted, generate

        usual = Bounds()
        bounds = Bounds(rounds or usual.rounds, budget or usual.seconds, tokens or usual.tokens)
        return generate(
            what,
            Wanted(
                output, dtype, shape or (), bounds, result or (), run_untrusted, compiling, dry_run, force, artifacts
            ),
        )
    words: dict[str, object] = {
        "--dtype": dtype,
        "--shape": shape,
        "--rounds": rounds,
        "--budget": budget,
        "--tokens": tokens,
    }
    words |= {"--result": result, "--dry-run": dry_run, "--run-untrusted": run_untrusted}
    only_for_a_model(generator, words, output)
    emit_files(what, output or Path("-"), force, compiling, artifacts)
    return 0


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
        str | None, typer.Option("--device", **one_of("cuda", "cpu"), help="default: cuda if there is a GPU")
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
    run_untrusted: RunUntrusted = False,
    artifacts: Artifacts = FOLDER,
    as_json: Json = False,
) -> int:
    """Verify a kernel: does it compute what its task says, and how long does it take?

    The candidate runs in a process of its own, with fresh inputs for each call, and is recorded. Its outputs are compared
    with float64 where it cannot see it, and the recording decides about its time. Exits with 0 if it is verified, 1 if it is
    refused, 3 if nothing could be recorded. A verdict that a GPU gave is kept with source and recording below --artifacts, and
    the guard asks there. docs/kernels.md says what is checked and what is not.
    """
    from ...kernels.verify.evidence import Asked
    from ...report.terminal.kernel_verification import print_verification
    from ..verifying import verify_and_keep

    asked = Asked(
        file,
        task,
        dtype or "",
        shape or (),
        device,
        calls,
        allow_library,
        sanitizer,
        timeout,
        run_untrusted=run_untrusted,
    )
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


@app.command(
    epilog=examples(
        "kernels bench rmsnorm --dtype bfloat16",
        "kernels bench mine.py --task saxpy --no-compile-baseline",
        "kernels bench test.cu --task rmsnorm --verification v.json",
    )
)
def bench(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TASK|FILE",
            help="a task, whose kernel is emitted with its defaults, or a kernel: a .cu or .py file",
            show_default=False,
            autocompletion=task_names,
        ),
    ],
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="what the file computes", show_default=False)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="element type; default: the task's first")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=N,...", help="a shape; repeats; default: the task's large ones"),
    ] = None,
    verification: Annotated[
        Path | None,
        typer.Option(
            "--verification",
            metavar="FILE",
            help="what `kernels verify --json` printed of the same file",
            show_default=False,
        ),
    ] = None,
    compile_baseline: Annotated[
        bool,
        typer.Option(
            "--compile-baseline/--no-compile-baseline", help="time torch.compile, too, which takes half a minute"
        ),
    ] = True,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", min=0, help="length of the loop for energy; 0: none")
    ] = 2.0,
    run_untrusted: RunUntrusted = False,
    as_json: Json = False,
) -> int:
    """Time a kernel beside PyTorch, eager and compiled.

    Each has a process of its own. Calls are timed by events, with a flushed L2 cache and at new addresses, and by a recording
    of the same calls; energy is of a loop of calls, by the GPU's own counter. Shares are of the time in which a copy moves
    the required bytes. Nothing here looks for cheating: a kernel that was not verified is marked. Exits with 3 if the kernel
    could not be timed, or is wrong.
    """
    from ...report.terminal.kernel_bench import print_bench
    from ..benching import Words, benched

    found = benched(Words(what, task, dtype, shape or (), verification), compile_baseline, seconds, run_untrusted)
    if as_json:
        print_json(found.document())
    else:
        print_bench(found)
    return found.exit_code


@app.command(
    epilog=examples("kernels search rmsnorm --dtype bfloat16 -o rmsnorm.cu", "kernels search saxpy --budget 30")
)
def search(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="a name from `aisp-trace kernels list`", show_default=False, autocompletion=task_names
        ),
    ],
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="NAME", help="element type; default: the task's first")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="NAME=N,...", help="a shape that counts; repeats; default: the task's first"),
    ] = None,
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="sm_NN", help="the GPU's architecture; default: this machine's")
    ] = None,
    budget: Annotated[
        float,
        typer.Option(
            "--budget", metavar="SECONDS", min=1, help="for trying; verifying the best takes a minute or two more"
        ),
    ] = 120.0,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="write the best as NAME.cu", show_default=False),
    ] = None,
    force: Force = False,
) -> int:
    """Find the fastest parameters of a task's kernel on this machine's GPU.

    Combinations are compiled side by side and timed one after the other, those nearest to the defaults first, until the budget
    is spent. The best three, and the defaults, are then verified as `kernels verify` does, and the trace's time decides. Exits
    with 3 without a GPU, where the defaults are shown and nothing is searched, or if nothing could be verified.
    """
    from ..benching import searched

    return searched(task, dtype, shape or (), arch, budget, output, force)
