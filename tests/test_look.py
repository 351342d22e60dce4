"""Colour where it is wanted and nowhere else, quiet where it is asked for, and help in words."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aisp_trace.cli import main as cli
from aisp_trace.cli.watching import Logged, progress_of
from aisp_trace.report.terminal.console import Column, Painted, heading, print_table, progress, warn
from aisp_trace.report.terminal.live import watched
from aisp_trace.report.terminal.look import ALWAYS, LOOK, NEVER
from aisp_trace.tests.builders.commands import Action, actions
from aisp_trace.tests.patience import wait_until
from aisp_trace.tests.test_every import made_plan

SAMPLE = Path(__file__).parent.parent / "traces" / "samples" / "h200_graphs.sqlite.xz"
ESCAPE = "\x1b["


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    LOOK.reset()


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.stdout", stream)
    heading("device 0")
    print_table([Column("verdict", "left")], [(Painted("met", "green"),)])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("terminal", "choice", "environment", "colour"),
    [
        (True, None, {}, True),
        (False, None, {}, False),
        (False, None, {"FORCE_COLOR": "1"}, False),
        (True, None, {"NO_COLOR": "1"}, False),
        (True, None, {"NO_COLOR": ""}, True),  # no-color.org: an empty one is none
        (True, None, {"TERM": "dumb"}, False),
        (True, NEVER, {}, False),
        (False, ALWAYS, {}, True),
        (False, ALWAYS, {"NO_COLOR": "1", "TERM": "dumb"}, True),  # what is typed counts more than what is set
    ],
)
def test_colour(
    terminal: bool, choice: str | None, environment: dict[str, str], colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if choice is not None:
        LOOK.colour = choice
    text = shown(Terminal() if terminal else io.StringIO(), monkeypatch)
    assert (ESCAPE in text) is colour
    assert [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()] == [
        "device 0",
        "verdict",
        "met",
    ]


@pytest.mark.parametrize(
    "words", [("--color", "always", "list"), ("list", "--color=always"), ("list", "--color", "always")]
)
def test_common_options_stand_before_or_after_the_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 0
    assert LOOK.colour == ALWAYS
    assert cli.main(["list"]) == 0
    assert LOOK.colour == "auto", "a choice lasts for one command line"
    capsys.readouterr()
    assert cli.main(["list", "--color", "alway"]) == 2
    assert capsys.readouterr().err == "aisp-trace: --color 'alway' does not exist; did you mean 'always'?\n"


def test_a_foreign_command_keeps_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["capture", "--dry-run", "--recorder", "nsys", "--", sys.executable, "-q", "--color", "never"])
    assert (LOOK.quiet, LOOK.colour) == (False, "auto")


def test_quiet_leaves_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    LOOK.quiet = True
    progress("reading")
    with watched("reading") as tell:
        tell("accounting")
    warn("it is not a trace")
    assert capsys.readouterr().err == "aisp-trace: it is not a trace\n"


def test_a_log_gets_a_line_a_step_and_one_where_it_lasts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched("reading x"):
        pass
    assert capsys.readouterr().err == "", "what is soon done needs no line"
    with watched("reading x") as tell:
        tell("accounting for 3 operations")
    assert capsys.readouterr().err == "aisp-trace: accounting for 3 operations ...\n"
    monkeypatch.setattr("aisp_trace.report.terminal.live.PATIENCE_S", 0.0)
    with watched("reading x"):
        err = wait_until(lambda: capsys.readouterr().err, "a line of progress")
    assert err == "aisp-trace: reading x ...\n"


def test_quiet_leaves_what_a_capture_must_say(capsys: pytest.CaptureFixture[str]) -> None:
    LOOK.quiet = True
    with progress_of(made_plan("one")) as make:
        steps = make("one", 2)
        steps.step("round 1 of 2")
        steps.step("round 2 of 2", repeated=True)
        steps.say("[one] note: timed by whole processes")
        steps.finish()
        steps.urge("interrupted; go on with `aisp-trace capture --resume x`")
    assert capsys.readouterr().err == "interrupted; go on with `aisp-trace capture --resume x`\n"


def test_a_quiet_capture_prints_its_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text("print(1)\n", encoding="utf-8")
    (tmp_path / "fast.py").write_text("", encoding="utf-8")
    pair = ["--baseline", "slow.py", "--optimized", "fast.py", "--profile", "none", "--device", "cpu", "--rounds", "1"]
    assert cli.main(["capture", "-q", "--name", "mine", *pair]) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"run: aisp-runs/mine-\S+\n", said.out) and said.err == ""


def test_a_log_has_the_first_round_the_estimate_and_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Forty rounds of two programs that take 5 s each: 400 s."""
    now = [0.0]
    progress = Logged("mine", 82, clock=lambda: now[0])
    for index in range(40):
        for name in ("baseline", "optimized"):
            progress.step(f"round {index + 1}/40: {name}", repeated=index > 0)
            now[0] += 5.0
    for name in ("baseline", "optimized"):
        progress.step(f"recording {name}")
        now[0] += 5.0
    progress.finish()
    lines = capsys.readouterr().err.splitlines()
    begins = ["1/40: baseline", "1/40: optimized", *(f"{n}/40: baseline" for n in (2, 8, 14, 20, 26, 32, 38))]
    for line, begin in zip(lines[:9], begins, strict=True):
        assert line.startswith(f"[mine] round {begin}"), line
    assert lines[2].endswith("(10 s elapsed, about 6 min 40 s left)")
    assert [line.split("  ")[0] for line in lines[9:]] == [
        "[mine] recording baseline",
        "[mine] recording optimized",
        "[mine] done in 6 min 50 s",
    ]


def test_a_terminal_shows_the_step_of_a_capture_and_a_log_has_a_line_for_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_of(made_plan("one")) as make:
        make("one", 2).step("round 1 of 2")
    assert capsys.readouterr().err == "[one] round 1 of 2\n"
    watched_by = Terminal()
    monkeypatch.setattr("sys.stderr", watched_by)
    with progress_of(made_plan("one")) as make:
        steps = make("one", 2)
        steps.step("round 1 of 2")
        wait_until(lambda: "0:00:0" in watched_by.getvalue(), "a refresh of the line")
        steps.say("[one] note: a note")
    text = watched_by.getvalue()
    assert "round 1 of 2 " in text and "0:00:0" in text
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.rsplit("\x1b[2K", 1)[-1]).strip()
    assert "[one] note: a note\n" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "") and last == ""


def typed(*words: str, **environment: str) -> str:
    """What a person sees who types `words` in a terminal of 100 columns."""
    master, slave = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    given = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | environment
    line = [sys.executable, "-P", "-m", "aisp_trace.cli", *words]
    process = subprocess.Popen(line, stdin=slave, stdout=slave, stderr=slave, env=given)
    os.close(slave)
    pieces = []
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # the terminal is gone
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(master)
    assert process.wait() == 0
    return b"".join(pieces).decode()


def test_a_real_terminal_has_colour_and_its_width() -> None:
    text = typed("analyze", str(SAMPLE))
    assert ESCAPE in text
    widths = [len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in text.replace("\r", "\n").split("\n")]
    assert 80 < max(widths) <= 100
    assert ESCAPE not in typed("analyze", str(SAMPLE), "-q", NO_COLOR="1")


@pytest.mark.parametrize("action", list(actions()), ids=str)
def test_help_shows_names_as_people_type_them(action: Action, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*action.words, "--help"]) == 0
    out = capsys.readouterr().out
    assert not re.search(r"<\w+(\[\w+\])?>|\[\w?[<>]=|\]\.\.\.\]|\[\[|default: (None|\[\])", out.replace("<run>", ""))
    assert re.search(r"^  -q, --quiet ", out, re.M) and re.search(r"^  --color auto\|always\|never ", out, re.M)


def test_help_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["kernels"], ["expectations"]):
        assert cli.main([*group, "--help"]) == 0
        assert "..." not in capsys.readouterr().out.split("\n", 1)[1].replace("capture -- COMMAND ...", "")


def test_a_number_that_is_too_small_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "--depth", "0", str(SAMPLE)]) == 2
    err = capsys.readouterr().err
    assert "is too small; the least is 1" in err and ">=" not in err


def test_version_has_a_short_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-V"]) == 0
    short = capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == short
