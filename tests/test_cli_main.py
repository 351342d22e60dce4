"""The program itself: it finds commands lazily, says one sentence for each error, and leaves with the right code."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from aisp_trace.cli import main as cli
from aisp_trace.cli.app import Command, WithForeignCommand, new_app
from aisp_trace.tests.builders.commands import Action, actions
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import InputError
from aisp_trace.traces.version import version

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes `run` the only command, called ``probe``, beside the real ``analyze``."""

    def put(run: Callable[..., Any], passthrough: bool = False) -> None:
        module = types.ModuleType("probe")
        module.app = new_app()  # type: ignore[attr-defined]
        module.app.command(cls=WithForeignCommand if passthrough else Command)(run)
        monkeypatch.setitem(sys.modules, "aisp_trace.cli.commands.probe", module)
        monkeypatch.setattr(cli, "COMMANDS", ("probe", "analyze"))

    return put


def raises(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def test_help_names_every_command_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"\n  {name} " not in out] == []
    assert max(map(len, out.splitlines())) <= 80


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "Usage: aisp-trace" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"aisp-trace {version()}\n"
    assert version()[0].isdigit()


HELP = "import sys; from aisp_trace.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", HELP], capture_output=True, text=True, check=True)
    heavy = {"torch", "polars", "plotly", "numpy", "pandas", "pyarrow", "pydantic", "numba"}
    assert heavy.isdisjoint(done.stderr.split())


@pytest.mark.nightly
def test_help_is_instant() -> None:
    """0.3 s of processor time, the interpreter's own start included; the best of five, since others may be at work."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-P", "-c", HELP], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_exists_and_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.lstrip().startswith(f"Usage: aisp-trace {command}")
    assert len(out.split()) > 20


@pytest.mark.parametrize("action", list(actions()), ids=str)
def test_every_help_ends_with_examples_that_are_accepted(action: Action, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*action.words, "--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    shown = out.partition("Examples:\n")[2].splitlines()
    lines = [shlex.split(line.split("  # ")[0].split(" > ")[0]) for line in shown]
    assert lines
    for program, *words in lines:
        assert program == "aisp-trace" and tuple(words[: len(action.words)]) == action.words
        action.parser.make_context(str(action), words[len(action.words) :])


def test_a_group_without_an_action_shows_its_help_and_leaves_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["expectations"]) == 2
    assert "Usage: aisp-trace expectations " in capsys.readouterr().out
    assert cli.main(["expectations", "shwo"]) == 2
    assert capsys.readouterr().err == "aisp-trace: no action of expectations is called 'shwo'; did you mean 'show'?\n"


@pytest.mark.parametrize(("typed", "offered"), [("cap", "capture"), ("capture pipe", "pipeline_sequential")])
def test_completion_offers_what_fits(typed: str, offered: str) -> None:
    words = f"aisp-trace {typed}"
    asked = {"_AISP_TRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    command = [sys.executable, "-P", "-m", "aisp_trace.cli"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **asked}, check=False)
    assert offered in done.stdout.split(), done.stderr


@pytest.mark.parametrize("action", list(actions()), ids=str)
def test_completion_offers_the_values_that_help_shows(action: Action) -> None:
    parser = action.parser
    for parameter in parser.params:
        if re.fullmatch(r"[a-z]+(\|[a-z]+)+", parameter.metavar or ""):
            values = (parameter.metavar or "").split("|")
            context = parser.make_context(str(action), [], resilient_parsing=True)
            assert [item.value for item in parameter.shell_complete(context, "")] == values, parameter.name
            assert values[-1] in [item.value for item in parameter.shell_complete(context, values[-1][:2])]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_installed_as_the_docs_say(tmp_path: Path) -> None:
    """A shell that reads what ``--install-completion`` wrote has the function that completes, and it completes."""
    program = tmp_path / "bin" / "aisp-trace"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m aisp_trace.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    script = """
        aisp-trace --install-completion >/dev/null
        source ~/.bashrc
        COMP_WORDS=(aisp-trace capture --profile d) COMP_CWORD=3
        $(complete -p aisp-trace | sed 's/.*-F \\([^ ]*\\).*/\\1/') aisp-trace
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.split() == ["deep"], done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_refuses_an_unknown_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--no-such-option"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"aisp-trace: no option of {command} is called '--no-such-option'")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["anlyze"], "aisp-trace: no command is called 'anlyze'; did you mean 'analyze'?\n"),
        (["xyz"], "aisp-trace: no command is called 'xyz'; commands are probe, analyze\n"),
        (["--vers"], "aisp-trace: no option is called '--vers'; did you mean '--version'?\n"),
        (["--jso", "analyze"],
         "aisp-trace: no option is called '--jso'; options follow the command, see `aisp-trace analyze --help`\n"),
        (["probe", "--sise", "3"], "aisp-trace: no option of probe is called '--sise'; did you mean '--size'?\n"),
        (["probe", "--zzz"], "aisp-trace: no option of probe is called '--zzz'; see `aisp-trace probe --help`\n"),
        (["probe", "-\x1b[31m"],
         "aisp-trace: no option of probe is called '-\\x1b'; see `aisp-trace probe --help`\n"),
    ],
)  # fmt: skip
def test_a_word_that_does_not_exist(
    args: list[str], sentence: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(size: Annotated[int, typer.Option()] = 1) -> None:
        raise AssertionError("must not run")

    install(run)
    assert cli.main(args) == 2
    assert capsys.readouterr().err == sentence


def test_a_value_of_the_wrong_type_is_one_line(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def run(size: Annotated[int, typer.Option()] = 1) -> None:
        raise AssertionError("must not run")

    install(run)
    assert cli.main(["probe", "--size", "many"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--size" in error
    assert error.endswith("see `aisp-trace probe --help`\n")


def test_superfluous_and_missing_arguments(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def run(file: Annotated[str, typer.Argument()]) -> None:
        raise AssertionError("must not run")

    install(run)
    assert cli.main(["probe", "a", "b"]) == 2
    assert cli.main(["probe"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("aisp-trace: ") and line.endswith("`aisp-trace probe --help`") for line in lines)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("x.sqlite is not a trace"), 2, "aisp-trace: x.sqlite is not a trace\n"),
        (InputError("\x1b]0;gone\x07 is\nno trace"), 2, "aisp-trace: \\x1b]0;gone\\x07 is\\nno trace\n"),
        (KeyboardInterrupt(), 130, "aisp-trace: interrupted\n"),
        (typer.Abort(), 130, "aisp-trace: interrupted\n"),
        (typer.Exit(3), 3, ""),
        (typer.Exit(0), 0, ""),
    ],
)
def test_what_a_command_raises_becomes_its_exit_code(
    error: BaseException, code: int, line: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raises(error))
    assert cli.main(["probe"]) == code
    assert capsys.readouterr().err == line


def test_a_command_may_return_its_exit_code(install: Install) -> None:
    install(lambda: 1)
    assert cli.main(["probe"]) == 1


def test_a_bug_keeps_its_traceback_and_never_looks_like_a_verdict(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raises(ZeroDivisionError("in \x1b[2Jthis")))
    assert cli.main(["probe"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):\n")
    assert "\nZeroDivisionError: in \\x1b[2Jthis\n" in error


@pytest.mark.parametrize("name", ["polars", "polars.io.database"])
def test_a_package_that_is_not_installed_is_no_bug(
    name: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raises(ModuleNotFoundError(f"No module named {name!r}", name=name)))
    assert cli.main(["probe"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aisp-trace: this command needs the package polars, which ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["aisp_trace.cli.gone", "json.gone", None])
def test_a_module_of_ours_that_is_missing_is_a_bug(
    name: str | None, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(raises(ModuleNotFoundError("No such module", name=name)))
    assert cli.main(["probe"]) == 70
    assert "ModuleNotFoundError: No such module" in capsys.readouterr().err


def test_a_broken_pipe_that_is_not_ours_is_a_bug(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raises(BrokenPipeError("a recorder's")))
    assert cli.main(["probe"]) == 70
    assert "BrokenPipeError" in capsys.readouterr().err


def test_what_follows_two_dashes_is_handed_on_untouched(install: Install) -> None:
    seen: list[tuple[str | None, int, list[str]]] = []

    def run(ctx: typer.Context, name: str | None = typer.Argument(None), size: int = 1) -> None:
        seen.append((name, size, ctx.args))

    install(run, passthrough=True)
    assert cli.main(["probe", "--size", "3", "--", "prog", "--size", "x", "--", "-v"]) == 0
    assert cli.main(["probe", "work"]) == 0
    assert seen == [(None, 3, ["prog", "--size", "x", "--", "-v"]), ("work", 1, [])]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--nope", "--", "prog"], "no option of probe is called '--nope'; see `aisp-trace probe --help`"),
        (["stray", "--", "prog"], "`aisp-trace probe` takes no arguments, and 'stray' is more than that"),
        (["--"], "`aisp-trace probe --` names no command; write it after the two dashes"),
    ],
)
def test_before_two_dashes_everything_is_strict(
    args: list[str], sentence: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(ctx: typer.Context, size: int = 1) -> None:
        raise AssertionError("must not run")

    install(run, passthrough=True)
    assert cli.main(["probe", *args]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"aisp-trace: {sentence}")


def test_a_reader_that_leaves_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "aisp_trace.cli", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_without_unicode_gets_escapes() -> None:
    program = (
        "from aisp_trace.cli import main; from aisp_trace.report.terminal import console; "
        "main.main(['--version']); console.say('größe 大')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, check=True, env=environment)
    assert done.stdout.splitlines()[1] == rb"gr\xf6\xdfe \u5927"


def test_a_process_ends_with_its_exit_code_and_all_its_output(tmp_path: Path) -> None:
    """It leaves without taking the interpreter apart: nothing may be lost by that."""
    for words, code in ((["list", "--json"], 0), (["analyze", str(tmp_path / "absent")], 2)):
        done = subprocess.run([sys.executable, "-P", "-m", "aisp_trace.cli", *words], capture_output=True, text=True)
        assert done.returncode == code
        if code == 0:
            assert json.loads(done.stdout)["schema"] == "aisp-trace/list/1"
        else:
            assert "absent" in done.stderr


def test_an_interrupt_while_the_program_is_imported_is_one_line() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from aisp_trace.cli.entry import leave\n"
        "leave()\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "aisp-trace: interrupted\n")
