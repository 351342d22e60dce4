"""``aisp-trace``: runs the command that was named, and turns what it raises into one line and an exit code.

Only the module of that command is imported, so that recording needs no analysis libraries. Exit codes: 0 done, and every judged
claim met; 1 a claim missed; 2 usage or unreadable input; 3 something could not be judged; 70 a bug in aisp-trace, with its
traceback; 130 interrupted; 141 the reader of a pipe left.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Final, NoReturn

import typer

from ..report.terminal import console
from ..report.terminal.look import LOOK
from ..traces.budget import watched
from ..traces.errors import AispTraceError, InputError, UsageError
from ..traces.output import is_disk_error, reason
from ..traces.version import version
from .app import SETTINGS, WORDS, Group, sentence, usage_error
from .mistakes import PROGRAM, for_no_command, for_variants
from .other_words import for_programs, for_ranks, for_word

BUG: Final = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""
PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as shells report it."""

LONGEST_SHOWN: Final = 300
"""Characters of a path that the system refused, which may be the reason."""

COMMANDS: Final = (
    *("list", "capture", "analyze", "ranks", "compare", "predict", "check", "accept", "expectations"),
    *("report", "bundle", "export", "kernels", "mcp", "doctor"),
)
"""In the order of the help. Each is a module of ``commands/`` with an ``app``."""

RUNNERS: Final = frozenset({"capture", "kernels", "doctor", "list"})
"""Commands whose time and memory are those of the programs that they run."""

COMPLETING: Final = "_AISP_TRACE_COMPLETE"
"""Set by the shell's completion, which typer answers."""

GC_THRESHOLD: Final = 100_000
"""Allocations between collections. Importing libraries makes hundreds of thousands of objects and no garbage: searching for it
every 700 took 0.2 of 2.9 s of an analysis of a million kernels."""


class Commands(Group):
    """The commands of the program, each imported when it is asked for."""

    noun = "command"

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the help."""
        return list(COMMANDS)

    def unknown(self, args: list[str], names: list[str], path: str) -> str:
        """That no command is called as the first of `args`, and what might be meant: another word, a trace, a program."""
        return f"no command is called {args[0]!r}{for_word(args[0], args) or for_no_command(args[0], args, names)}"

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The parser of command `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        return typer.main.get_command(importlib.import_module(f".commands.{cmd_name}", __package__).app)


app = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    epilog="Exit codes: 0 done, and every judged claim met; 1 a claim missed; 2 usage or unreadable input; 3 something, or "
    "everything, could not be judged. The help of a command shows its options and examples.",
)


def _version(asked: bool) -> None:
    if asked:
        console.say(f"{PROGRAM} {version()}")
        raise typer.Exit


@app.callback()
def program(
    version_: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Prove a speedup: every nanosecond of a run, and of a speedup, is attributed exactly once, and no verdict is given that
    the evidence does not carry.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return its exit code; never raises for a bug."""
    _make_streams_robust()
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
        _flush()
    except KeyboardInterrupt:
        console.warn("interrupted")
        return INTERRUPTED
    except AispTraceError as error:
        for line in error.args:
            console.warn(line)
        return error.exit_code
    except MemoryError:
        console.warn("this machine has too little memory for what was asked; give fewer or smaller files")
        return UsageError.exit_code
    except ModuleNotFoundError as error:
        if (package := _absent_package(error)) is None:
            _print_bug(error)
            return BUG
        console.warn(
            f"this command needs the package {package}, which {sys.executable} does not have; install aisp-trace's "
            "dependencies there, or take the run folder to a machine that has them"
        )
        return UsageError.exit_code
    except Exception as error:
        # The one place that catches everything: Python would leave with 1, which here means "a claim was missed".
        if isinstance(error, BrokenPipeError) and _reader_left():
            return PIPE_CLOSED
        if isinstance(error, OSError) and is_disk_error(error):
            console.warn(_refused_by_system(error))
            return InputError.exit_code
        _print_bug(error)
        return BUG
    return code


def leave() -> NoReturn:
    """`main` as a whole process, which `entry` begins.

    It ends without taking the interpreter apart, which for tables of a million kernels takes a fifth of a second and achieves
    nothing: work that goes on in threads is waited for, both streams are flushed, and the system has the memory back at once.
    """
    code = main()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    try:
        _flush()
        sys.stderr.flush()
    except OSError:
        pass  # the reader has left; the exit code is settled
    if sys.gettrace() is not None or sys.getprofile() is not None:
        sys.exit(code)  # who measures this process has something to write at its end
    os._exit(code)


def run(args: list[str]) -> int:
    """Run `args`, the words after ``aisp-trace``; returns the exit code, and raises whatever the command raises."""
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    parser: Any = typer.main.get_command(app)
    if COMPLETING in os.environ:
        parser.main(args, prog_name=PROGRAM)
    WORDS.set(tuple(args))
    LOOK.reset()
    # Else not `parser.main`: it has its own opinion on interrupts and pipes, and exit codes that mean other things here.
    try:
        with _budget(args), parser.make_context(PROGRAM, args) as context:
            answer = parser.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except usage_error() as error:
        raise UsageError(sentence(error)) from error
    except (InputError, UsageError) as error:
        if meant := for_variants(args) or for_programs(args) or for_ranks(args):
            raise UsageError(meant) from error
        raise
    return answer if isinstance(answer, int) else 0


def _budget(args: Sequence[str]) -> AbstractContextManager[None]:
    """Holds a command that reads what others may have made to its budget; those that run programs take what these take."""
    command = next((word for word in args if not word.startswith("-")), "")
    return nullcontext() if command in RUNNERS else watched()


def _absent_package(error: ModuleNotFoundError) -> str | None:
    """The package that is not installed, as on a host that only records; null if what is missing is a module of ours."""
    package = (error.name or "").partition(".")[0]
    ours = (__package__ or "").partition(".")[0]
    return None if package in ("", ours) or package in sys.stdlib_module_names else package


def _refused_by_system(error: OSError) -> str:
    """What any look at a path may meet, such as `is_file()` of a name that is too long, and any read of a file on a bad disk."""
    if error.filename is None:
        return f"a file cannot be read or written: {reason(error)}; check the disk"
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    shown = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."
    return f"{shown} cannot be used: {reason(error)}; name another path"


def _print_bug(error: Exception) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    for line in text.splitlines():
        console.print_line(line, sys.stderr)
    console.warn("this is a bug in aisp-trace; please report it with the lines above")


def _make_streams_robust() -> None:
    """A name that the terminal's encoding cannot show is printed escaped instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _reader_left() -> bool:
    """Whether stdout or stderr is a pipe nobody reads; if so it is replaced, so that Python's last flush is quiet."""
    import select

    left = False
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)  # an error is reported without being asked for
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            left = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return left
