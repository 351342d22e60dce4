"""`aisp-trace analyze FILE --json` is read without typer: it must mean what typer makes of it, and load little."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from aisp_trace.cli import analysis
from aisp_trace.cli import main as cli
from aisp_trace.cli.commands import analyze

H100 = Path(__file__).parent.parent / "traces" / "samples" / "h100_pipeline_decode.sqlite.xz"


def meant(options: dict[str, Any]) -> dict[str, Any]:
    """All arguments of `show`, its defaults among them; no files and null both mean the newest run."""
    bound = inspect.signature(analysis.show).bind(**options)
    bound.apply_defaults()
    return {**bound.arguments, "sources": list(bound.arguments["sources"] or [])}


def by_typer(args: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the parser hands to `show`."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(analyze, "show", lambda sources, **options: found.append({"sources": sources, **options}))
    monkeypatch.setattr(analysis, "understood", lambda _: None)
    assert cli.main(["analyze", *args]) == 0
    return meant(found[0])


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--json"],
        ["a.sqlite"],
        ["a.sqlite", "--json"],
        ["--json", "runs/a b", "../c"],
        ["a", "b", "a", "--no-cache", "--json", "--json"],
        ["--cache", "a", "--no-cache"],
        ["--no-cache", "a", "--cache"],
        ["~/a", "*", "x=y", "a-b"],
    ],
)
def test_a_plain_line_means_what_the_parser_says(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    understood = analysis.understood(args)
    assert understood is not None
    assert meant(understood) == by_typer(args, monkeypatch)


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["a", "-h"],
        ["a", "--jso"],
        ["a", "--json=yes"],
        ["a", "--gaps", "3"],
        ["--gaps=3", "a"],
        ["--", "a"],
        ["-"],
        [""],
    ],
)
def test_every_other_line_is_left_to_the_parser(args: list[str]) -> None:
    assert analysis.understood(args) is None


def test_the_switches_and_the_defaults_are_those_declared() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(analyze.run)
    parser: Any = typer.main.get_command(app)
    declared: dict[str, dict[str, bool]] = {}
    for option in (p for p in parser.params if getattr(p, "is_flag", False)):
        declared |= {name: {option.name: True} for name in option.opts}
        declared |= {name: {option.name: False} for name in option.secondary_opts}
    assert declared == analysis.SWITCHES
    shown = inspect.signature(analysis.show).parameters
    defaults = {name: p.default for name, p in inspect.signature(analyze.run).parameters.items() if name != "sources"}
    assert {name: p.default for name, p in shown.items() if name != "sources"} == defaults


def test_a_small_trace_as_json_loads_neither_a_parser_nor_compiled_code() -> None:
    program = (
        "import sys; from aisp_trace.cli.main import main; code = main(['analyze', sys.argv[1], '--json']); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, str(H100)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {"typer", "click", "rich", "pydantic", "numba", "pyarrow", "pandas", "plotly", "torch"}
    assert heavy.isdisjoint(done.stderr.split())
    parsed = [sys.executable, "-P", "-m", "aisp_trace.cli", "analyze", "--gaps", "20", str(H100), "--json"]
    assert done.stdout == subprocess.run(parsed, capture_output=True, text=True, check=True).stdout
