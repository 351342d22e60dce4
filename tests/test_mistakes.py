"""What people type instead of what they mean: one sentence, exit 2, and in it the command line that they mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aisp_trace.cli import main as cli
from aisp_trace.cli.mistakes import program_in
from aisp_trace.cli.programs import is_workload

SAMPLES = Path(__file__).parent.parent / "traces" / "samples"
ORDINARY = "import argparse\nargparse.ArgumentParser().parse_args()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: an ordinary program, a workload file, a trace, a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(ORDINARY)
    (tmp_path / "workload.py").write_text("from aisp_trace.workloads.runner import main\n")
    shutil.copy(SAMPLES / "h200_graphs.sqlite.xz", "t.sqlite.xz")
    (tmp_path / "page.html").write_text('<!DOCTYPE html>\n<meta name="generator" content="aisp-trace 0">')
    (tmp_path / "run").symlink_to(SAMPLES / "h200_pipeline_sequential")
    (tmp_path / "ranks").mkdir()
    for rank in (0, 1):
        (tmp_path / "ranks" / f"r{rank}.sqlite.xz").symlink_to(SAMPLES / "h200x2_fsdp" / f"rank{rank}.sqlite.xz")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("capture --rounds 0 train.py", "--rounds was given with a command of your own"),
        ("capture train", "`aisp-trace capture -- python train.py`"),
        ("capture workload.py --roundz 3", "did you mean '--rounds'?"),
        ("capture pipeline_sequential test", "`aisp-trace capture` takes 1 argument, and 'test' is more than that"),
        ("capture pipeline_sequental", "did you mean 'pipeline_sequential'?"),
        ("capture --rounds many workload.py", "'--rounds'"),
        ("train.py --steps 3", "`aisp-trace capture -- python train.py --steps 3`"),
        ("python train.py", "`aisp-trace capture -- python train.py`"),
        ("t.sqlite.xz", "`aisp-trace analyze t.sqlite.xz`"),
        ("run", "`aisp-trace analyze run`"),
        ("version", "did you mean '--version'?"),
        (
            "expectations validate --expectations exp",
            "the folder is its argument: aisp-trace expectations validate exp",
        ),
        ("verify proof.tar.gz", "to verify a bundle: `aisp-trace bundle verify FILE`"),
        ("scrub t.sqlite.xz", "to copy a trace without personal data: `aisp-trace export FILE --scrub`"),
        ("capture --workers 2 train.py", "options of a program go behind its name: capture train.py --its-own-option"),
        (
            "capture --baseline train.py --workers 0 --optimized train.py --workers 2",
            "a command with options needs quotes: --baseline 'train.py --workers 0'",
        ),
        (
            "capture --optimized=train.py -n 2 --baseline train.py",
            "a command with options needs quotes: --optimized 'train.py -n 2'",
        ),
        ("analyze train.py", "it is a program; record it first: `aisp-trace capture train.py`"),
        ("--json analyze t.sqlite.xz", "options follow the command, see `aisp-trace analyze --help`"),
        ("analyze .", "holds traces; name one, such as t.sqlite.xz"),
        ("analyze run:optimised", "it has baseline, optimized, cuda_graph"),
        ("report run:baseline", "this command takes all of a run: run"),
        ("report t.sqlite.xz -o", "see `aisp-trace report --help`"),
        ("export t.sqlite.xz perfetto", "did you mean --to perfetto?"),
        ("check t.sqlite.xz", "`aisp-trace analyze t.sqlite.xz`"),
        ("accept t.sqlite.xz", "`aisp-trace capture` makes a run"),
        ("bundle t.sqlite.xz", "`aisp-trace capture` makes a run"),
        ("bundle verify", "`aisp-trace bundle verify FILE`"),
        ("compare a b c", "takes 2 arguments, and 'c' is more than that"),
        ("list all", "takes no arguments, and 'all' is more than that"),
        ("analyze --to perfetto t.sqlite.xz", "; export has it"),
        ("compare run --change graph", "; predict has it"),
        ("check run -o page.html", "`aisp-trace report run -o page.html`"),
        ("check run -o verdict", "; ranks, report, bundle, export have it"),
        ("-v", "did you mean '-V'?"),
        ("check", "or name what to read"),
        ("analyze --depth 0 t.sqlite.xz", "the least is 1"),
        ("analyze --gaps few t.sqlite.xz", "'--gaps'"),
        ("analyze run/optimized", "name it run:optimized"),
        ("check run/optimized", "takes all of a run: run"),
        ("report run/optimized", "takes all of a run: run"),
        ("analyze run --variant cuda_graph", "`aisp-trace analyze run:cuda_graph`"),
        ("analyze --variant=cuda_graph run", "`aisp-trace analyze run:cuda_graph`"),
        ("compare run --variant optimized", "`aisp-trace compare run:baseline run:optimized`"),
        ("compare run baseline optimized", "`aisp-trace compare run:baseline run:optimized`"),
        ("report run baseline cuda_graph", "`aisp-trace report run:baseline run:cuda_graph`"),
        ("compare run optimized", "`aisp-trace compare run:baseline run:optimized`"),
        ("compare run baseline", "`aisp-trace compare run:baseline run:cuda_graph`"),
        ("analyze run baseline --json", "`aisp-trace analyze run:baseline`"),
        ("analyze t.sqlite.xz --iteration 2", "--window 'iteration#2'"),
        ("compare run --step=3", "--window 'iteration#3'"),
        (
            "analyze t.sqlite.xz --window slowest",
            "names the slowest iteration in its first lines, and --window 'iteration#2'",
        ),
        ("report page.html --scrub", "run the command on the trace or run that it was made from"),
        (
            "report --scrub t.sqlite.xz run t.sqlite.xz",
            "for t in t.sqlite.xz run t.sqlite.xz; do aisp-trace report --scrub",
        ),
        (
            "report t.sqlite.xz run t.sqlite.xz ranks",
            "a folder of ranks has its own: `aisp-trace ranks ranks -o job.html`",
        ),
        ("export --scrub t.sqlite.xz run", "an export is of one recording, and 2 were given"),
        ("analyze t.sqlite.xz --html", "`aisp-trace report t.sqlite.xz -o page.html`"),
        ("analyze t.sqlite.xz -o x.html", "`aisp-trace report t.sqlite.xz -o page.html`"),
        ("analyze t.sqlite.xz --out x.json", "aisp-trace analyze ... --json > x.json"),
        ("ranks t.sqlite.xz --html", "`aisp-trace ranks t.sqlite.xz -o page.html`"),
        ("compare run --html", "`aisp-trace report run -o page.html`"),
        ("compare t.sqlite.xz t.sqlite.xz --html", "`aisp-trace report t.sqlite.xz t.sqlite.xz -o page.html`"),
        ("export t.sqlite.xz --format parquet", "--to parquet"),
        ("export t.sqlite.xz -f csv", "--to csv"),
        ("report t.sqlite.xz x.html", "if it is the page to write: -o x.html"),
        ("analyze *.nothing", "leave out the quotes"),
        ("open t.sqlite.xz", "`aisp-trace analyze t.sqlite.xz`, as a page: `aisp-trace report t.sqlite.xz`"),
        ("summary run", "`aisp-trace report run`"),
        (
            "check run --fail-on missed",
            "`aisp-trace check run` exits with 0 where all are met, 1 where one is missed, 3 where",
        ),
        ("check --threshold 1.2", "`aisp-trace check RUN` exits with 0"),
        (
            "check train.py workload.py",
            "`aisp-trace capture --baseline train.py --optimized workload.py`, then `aisp-trace check`",
        ),
        (
            "compare train.py workload.py",
            "capture --baseline train.py --optimized workload.py`, then `aisp-trace compare`",
        ),
        (
            "accept train.py",
            "train.py is a program, and accept takes a run of two; make one: `aisp-trace capture --baseline",
        ),
        ("gate run", "to judge a run by what is written down: `aisp-trace check run`"),
        ("verify run", "`aisp-trace check run`, to verify a bundle: `aisp-trace bundle verify FILE`"),
        ("test run", "to judge a run by what is written down: `aisp-trace check run`"),
        ("judge", "`aisp-trace check RUN`"),
        ("diff run t.sqlite.xz", "to compare: `aisp-trace compare run t.sqlite.xz`"),
        ("report t.sqlite.xz --anonymize", "did you mean --scrub? `aisp-trace report t.sqlite.xz --scrub`"),
        ("export run --redact", "did you mean --scrub? `aisp-trace export run --scrub`"),
        ("analyze t.sqlite.xz --redact", "a copy without personal data: `aisp-trace export t.sqlite.xz --scrub`"),
        ("analyze t.sqlite.xz --kernels", "`aisp-trace analyze t.sqlite.xz` names the kernels that take longest"),
        ("analyze t.sqlite.xz --top 5", "`aisp-trace export t.sqlite.xz --to csv` have all of them"),
        (
            "compare --base run --opt t.sqlite.xz",
            "the two sides follow the command: `aisp-trace compare run t.sqlite.xz`",
        ),
        ("compare --baseline run", "`aisp-trace compare BASE OPT`"),
        ("kernels t.sqlite.xz", "those of a recording are in `aisp-trace analyze t.sqlite.xz`"),
        ("expectations run", "to judge a run by them: `aisp-trace check run`"),
        (
            "analyze run:optimized --stages iteration/compute",
            "--stages takes names: --stages compute, or --range iteration/compute",
        ),
        ("report ranks", "`aisp-trace ranks ranks -o job.html`, one of them: `aisp-trace report ranks/r0.sqlite.xz`"),
        (
            "export ranks --to csv",
            "`aisp-trace ranks ranks --json`, one of them: `aisp-trace export ranks/r0.sqlite.xz`",
        ),
        ("analyze page.html", "page.html cannot be read as a trace: it is a page of aisp-trace"),
    ],
)
def test_the_answer_is_what_to_type(typed: str, meant: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(typed.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("aisp-trace: ") and said.err.count("\n") == 1
    assert meant in said.err
    for odd in ("Input should be", "extra argument", ">=", "Traceback", "unexpected"):
        assert odd not in said.err
    there = {"train.py", "workload.py", "t.sqlite.xz", "page.html", "run", "ranks"}
    assert {p.name for p in folder.iterdir()} == there, "nothing was made"
    assert len(list((folder / "ranks").iterdir())) == 2


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "analyze"]) == 0
    assert capsys.readouterr().out.startswith("Usage: aisp-trace analyze")
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: aisp-trace [OPTIONS] COMMAND")


def test_one_variant_of_a_run_is_analysed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["analyze", "run:cuda_graph", "--json"]) == 0
    assert capsys.readouterr().out.count('"variant":') == 1


def test_what_is_a_workload_file(tmp_path: Path) -> None:
    def file(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    assert not is_workload(file("a.py", ORDINARY))
    assert is_workload(file("b.py", "import aisp_trace.workloads.runner"))
    file("common.py", "from aisp_trace.workloads.runner import main")
    assert is_workload(file("c.py", "from common import main\nmain()"))
    assert is_workload(file("d.py", "parser.add_argument('--variant')"))
    assert not is_workload(file("e.sh", "true")) and not is_workload(tmp_path / "gone.py")
    assert program_in(["--rounds", "3", "python", "x.py"]) == ["python", "x.py"]
    assert program_in(["pipeline_sequential", "python"], ["pipeline_sequential"]) == []


def test_two_recordings_of_one_run_are_compared_and_the_run_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SAMPLES / "h200_pipeline_sequential"
    pair = [str(run / name / "trace.sqlite.xz") for name in ("baseline", "optimized")]
    assert cli.main(["compare", *pair]) == 0
    said = f"both are recordings of {run}; `aisp-trace compare {run}:baseline {run}:optimized` also compares its untraced rounds"
    assert said in capsys.readouterr().err
    assert cli.main(["compare", pair[0], str(SAMPLES / "h200_graphs.sqlite.xz")]) == 0
    assert "both are recordings" not in capsys.readouterr().err
