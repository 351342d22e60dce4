"""``aisp-trace``: finds the command, runs it, and turns what it raises into one line and an exit code.

Only the module of the command that was called is imported, so that ``--help`` is instant and recording needs no
analysis libraries. Exit codes: 0 done, and every judged claim met; 1 a claim missed; 2 usage or unreadable input;
3 something could not be judged; 70 a bug in aisp-trace, with its traceback; 130 interrupted; 141 the reader of a pipe left.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from ..traces.errors import AispTraceError, UsageError
from . import analysis, console

BUG: Final = 70
"""EX_SOFTWARE of sysexits.h."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""
PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as shells report it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the module in ``commands/`` that exports its ``run`` (or ``SUBCOMMANDS``), and its line in the help.

    `passthrough`: what follows the first ``--`` is a foreign command line. It is never parsed here; ``run`` takes a
    ``typer.Context`` and finds it in ``ctx.args``.
    """

    name: str
    module: str
    help: str
    passthrough: bool = False


COMMANDS: Final = (
    Command("list", "list", "Show the workloads, their variants and what each needs."),
    Command("capture", "capture", "Run a workload, or any command, and record it in a run folder.", passthrough=True),
    Command("analyze", "analyze", "Account for every nanosecond of a run or trace, stage by stage."),
    Command("compare", "compare", "Show where the saved time went, stage by stage."),
    Command("check", "check", "Judge a run against the expectations written down for it."),
    Command("accept", "accept", "Write what runs measured as bounds: the only command that does."),
    Command("expectations", "expectations", "Show, validate and compare expectation files."),
    Command("report", "report", "Write one offline HTML page about a run."),
    Command("bundle", "bundle", "Put a run's proof into one archive, or verify one."),
    Command("export", "export", "Write a trace for Perfetto, as tables, as JSON, or scrubbed."),
    Command("doctor", "doctor", "Say what is installed, what is missing, and the exact remedy."),
)

USAGE: Final = "aisp-trace COMMAND [OPTIONS] [ARGS]"


GC_THRESHOLD: Final = 100_000
"""Allocations between collections. Importing libraries makes hundreds of thousands of objects and no garbage: searching for it
every 700 took 0.2 of 2.9 s of an analysis of a million kernels."""


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
        console.warn(str(error))
        return error.exit_code
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
        _print_bug(error)
        return BUG
    return code


def leave() -> NoReturn:
    """`main` as a whole process: the way in of the console script.

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
    if not args:
        console.say_lines(help_text())
        return 2
    first = args[0]
    if first in ("--help", "-h"):
        console.say_lines(help_text())
        return 0
    if first == "--version":
        console.say(f"aisp-trace {version()}")
        return 0
    return run_command(find(first), args[1:])


def find(word: str) -> Command:
    """The command called `word`; raises `UsageError` naming the nearest one."""
    for command in COMMANDS:
        if command.name == word:
            return command
    from ..traces.run import nearest

    if word.startswith("-"):
        hint = nearest(word, ("--help", "--version")) or "; options follow the command, see `aisp-trace --help`"
        raise UsageError(f"no option is called {word!r}{hint}")
    names = [c.name for c in COMMANDS]
    raise UsageError(f"no command is called {word!r}{nearest(word, names) or '; commands are ' + ', '.join(names)}")


def run_command(command: Command, args: list[str]) -> int:
    """Import `command` and run it with `args`; click's usage errors become a `UsageError` of one sentence."""
    foreign: list[str] = []
    if command.passthrough and "--" in args:
        at = args.index("--")
        args, foreign = args[:at], args[at + 1 :]
        if not foreign:
            raise UsageError(f"`aisp-trace {command.name} --` names no command; write it after the two dashes")

    if command.name == "analyze" and (options := analysis.understood(args)) is not None:
        analysis.show(**options)
        return 0
    module = importlib.import_module(f".commands.{command.module}", __package__)
    if hasattr(module, "SUBCOMMANDS"):
        return _run_subcommand(command, module.SUBCOMMANDS, args)
    return _parse_and_call(command, module.run, args, foreign)


def _run_subcommand(command: Command, subcommands: Mapping[str, Any], args: list[str]) -> int:
    """Commands of several actions: ``SUBCOMMANDS`` of their module maps each action to its function."""
    from ..traces.run import nearest

    lines = "\n".join(f"  {n}  {(f.__doc__ or '').splitlines()[0]}" for n, f in _aligned(subcommands))
    text = f"Usage: aisp-trace {command.name} ACTION [OPTIONS] [ARGS]\n\n{command.help}\n\nActions:\n{lines}"
    if not args or args[0] in ("--help", "-h"):
        console.say_lines(text)
        return 0 if args else 2
    if args[0].startswith("-"):
        hint = nearest(args[0], ["--help"]) or f"; its actions have options: {', '.join(subcommands)}"
        raise UsageError(f"no option of {command.name} is called {args[0]!r}{hint}")
    if args[0] not in subcommands:
        hint = nearest(args[0], subcommands) or f"; actions are {', '.join(subcommands)}"
        raise UsageError(f"{command.name} has no action {args[0]!r}{hint}")
    action = replace(command, name=f"{command.name} {args[0]}")
    return _parse_and_call(action, subcommands[args[0]], args[1:], [])


def _aligned(subcommands: Mapping[str, Any]) -> list[tuple[str, Any]]:
    width = max(map(len, subcommands))
    return [(f"{name:<{width}}", function) for name, function in subcommands.items()]


def _parse_and_call(command: Command, function: Any, args: list[str], foreign: list[str]) -> int:
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(command.name, context_settings={"help_option_names": ["--help", "-h"]})(function)
    parser: Any = typer.main.get_command(app)
    # Not `parser.main`: it has its own opinion on interrupts and pipes, and exit codes that mean other things here.
    try:
        with parser.make_context(f"aisp-trace {command.name}", args) as context:
            context.args = foreign
            answer = parser.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except _click_exception() as error:
        raise UsageError(_usage_sentence(command, parser, error)) from error
    return answer if isinstance(answer, int) else 0


def help_text() -> str:
    """The help of the program itself: its promise and its commands."""
    width = max(len(c.name) for c in COMMANDS)
    lines = [
        f"Usage: {USAGE}",
        "",
        "Prove a speedup: every nanosecond of a run, and of a speedup, is attributed",
        "exactly once, and no verdict is given that the evidence does not carry.",
        "",
        "Commands:",
        *(f"  {c.name:<{width}}  {c.help}" for c in COMMANDS),
        "",
        "Options:",
        f"  {'--help':<{width}}  Show this; `aisp-trace COMMAND --help` shows its options.",
        f"  {'--version':<{width}}  Show the version.",
        "",
        "Exit codes: 0 done, and every judged claim met; 1 a claim missed; 2 usage or",
        "unreadable input; 3 something, or everything, could not be judged.",
    ]
    return "\n".join(lines)


def version() -> str:
    """The version of this checkout, or of the installed package."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        import tomllib

        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    from importlib import metadata

    return metadata.version("aisp-trace")


def _click_exception() -> type[Exception]:
    """ClickException, whether typer brings its own copy of click, as newer versions do, or depends on click."""
    import typer

    found: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    return found


def _usage_sentence(command: Command, parser: Any, error: Any) -> str:
    from ..traces.run import nearest

    if type(error).__name__ == "NoSuchOption":
        known = [name for parameter in parser.params for name in parameter.opts if name.startswith("-")]
        hint = nearest(error.option_name, [*known, "--help"])
        what = f"no option of {command.name} is called {error.option_name!r}"
    else:
        hint = ""
        text = " ".join(error.format_message().split()).rstrip(".")
        what = text[:1].lower() + text[1:]
    return what + (hint or f"; see `aisp-trace {command.name} --help`")


def _absent_package(error: ModuleNotFoundError) -> str | None:
    """The package that is not installed, as on a host that only records; null if what is missing is a module of ours."""
    package = (error.name or "").partition(".")[0]
    ours = (__package__ or "").partition(".")[0]
    return None if package in ("", ours) or package in sys.stdlib_module_names else package


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
