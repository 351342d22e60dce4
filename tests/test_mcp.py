"""The MCP server, through the SDK's own client: the documents of ``--json``, cut to fit, of files below one folder alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the MCP SDK is not installed")

from mcp import Client, StdioServerParameters, stdio_client

from aisp_trace.cli.main import main
from aisp_trace.cli.serving import MOST_CHARACTERS, fitted, make_server
from aisp_trace.tests.builders.samples import ROOT, SAMPLES
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import UsageError

TOOLS = {"recordings", "analyze", "compare", "check", "predict"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a trace, expectations, and links that lead out of it; a secret lies beside it."""
    outer = tmp_path_factory.mktemp("outer")
    folder = outer / "served"
    shutil.copytree(SAMPLES / "h200_pipeline_sequential", folder / "run")
    shutil.copy(SAMPLES / "h200_graphs.sqlite.xz", folder / "graphs.sqlite.xz")
    (folder / "expectations").mkdir()
    for file in (ROOT / "expectations").glob("*.json"):
        shutil.copy(file, folder / "expectations")
    shutil.copy(SAMPLES / "h200_managed.sqlite.xz", outer / "secret.sqlite.xz")
    (folder / "link.sqlite.xz").symlink_to(outer / "secret.sqlite.xz")
    (folder / "out").symlink_to(outer)
    shutil.copytree(folder / "run", folder / "linked")
    (trace,) = (folder / "linked" / "optimized").glob("*.sqlite*")
    trace.unlink()
    trace.symlink_to(outer / "secret.sqlite.xz")
    return folder


def call(folder: Path, tool: str, **arguments: Any) -> Any:
    """What the tool answers: its document, or (in text) why not."""

    async def ask() -> Any:
        async with Client(make_server(folder)) as client:
            result = await client.call_tool(tool, arguments)
            (content,) = result.content
            text = content.text  # type: ignore[union-attr]
            assert len(text) <= MOST_CHARACTERS
            return text if result.is_error else json.loads(text)

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def in_the_folder(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served)


def test_there_are_five_tools_that_only_read(served: Path) -> None:
    async def ask() -> Any:
        async with Client(make_server(served)) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(ask())}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert tool.annotations is not None and tool.annotations.read_only_hint
        assert tool.description and all("description" in p for p in tool.input_schema.get("properties", {}).values())


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_answers_are_the_documents_of_the_commands(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With as many rows as there are, nothing is missing but what is counted."""
    for tool, arguments, words in (
        ("analyze", {"recording": "graphs.sqlite.xz"}, ["analyze", "graphs.sqlite.xz"]),
        ("compare", {"base": "run:baseline", "opt": "run:optimized"}, ["compare", "run:baseline", "run:optimized"]),
        ("check", {"run": "run"}, ["check", "run"]),
        ("predict", {"recording": "run:baseline", "changes": ["syncs"]}, ["predict", "run:baseline", "--change", "syncs"]),
    ):  # fmt: skip
        whole = said(capsys, *words)
        for one in (whole, answered := call(served, tool, **arguments)):
            one.pop("of", None)  # the path as it was given
            one.get("expectations", {}).pop("folder", None)
        left_out = answered.pop("left_out", {})
        expected = fitted(whole, 20, None)
        assert left_out == expected.pop("left_out", {})
        answered.get("expectations", {}).pop("chosen", None), expected.get("expectations", {}).pop("chosen", None)
        assert answered == expected, tool


def test_keys_and_rows_choose(served: Path) -> None:
    found = call(served, "analyze", recording="graphs.sqlite.xz", keys=["findings", "stages"], rows=3)
    (trace,) = found["traces"]
    assert {"findings", "stages", "trace", "trust"} <= set(trace) and "ledger" not in trace
    assert len(trace["stages"]) == 3 and found["left_out"]["traces[].stages"] == 12
    assert "there is no key 'leger'; there are" in call(served, "analyze", recording="graphs.sqlite.xz", keys=["leger"])
    many = call(served, "analyze", recording="graphs.sqlite.xz", rows=1000)
    assert len(many["traces"][0]["stages"]) == 15, "which fits"


def test_an_answer_that_is_too_long_is_cut_and_says_so() -> None:
    document = {"traces": [{"rows": [{"name": "x" * 1000, "n": i} for i in range(1000)]}]}
    made = fitted(document, 1000, None)
    kept = made["traces"][0]["rows"]
    assert 50 < len(kept) < 1000 and made["left_out"] == {"traces[].rows": 1000 - len(kept)}
    assert len(json.dumps(made)) <= MOST_CHARACTERS and len(kept[0]["name"]) == 300
    assert fitted({"a": [1, 2]}, 2, None) == {"a": [1, 2]}


def test_recordings_are_those_below_the_folder(served: Path) -> None:
    assert call(served, "recordings") == {"recordings": ["graphs.sqlite.xz", "linked", "run"]}


OUTSIDE = "leads out of the served folder"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.sqlite.xz",
        "run/../../secret.sqlite.xz",
        "link.sqlite.xz",
        "out/secret.sqlite.xz",
        "out/secret.sqlite.xz:baseline",
        "/etc/passwd",
        "/",
        "..",
        "linked",
        "linked:optimized",
        "linked/optimized",
    ],
)
@pytest.mark.parametrize("tool", ["analyze", "compare", "check", "predict"])
def test_nothing_outside_is_read(name: str, tool: str, served: Path) -> None:
    key = {"compare": "base", "check": "run"}.get(tool, "recording")
    assert OUTSIDE in call(served, tool, **{key: name})


def test_expectations_lie_inside_too(served: Path, tmp_path: Path) -> None:
    assert OUTSIDE in call(served, "check", run="run", expectations="..")
    assert OUTSIDE in call(served, "check", run="run", expectations="out")
    (tmp_path / "expectations").symlink_to(served / "expectations")
    with pytest.raises(UsageError, match=OUTSIDE):
        make_server(tmp_path)


def test_what_does_not_exist_is_said(served: Path) -> None:
    assert "nope does not exist below the served folder" in call(served, "analyze", recording="nope")
    assert "has no variant 'nope'" in call(served, "analyze", recording="run:nope")
    assert "no change is called 'nope'" in call(served, "predict", recording="run:baseline", changes=["nope"])


def test_nothing_is_written(served: Path) -> None:
    def state() -> dict[str, str]:
        files = [f for f in served.rglob("*") if f.is_file()]
        return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    before = state()
    for tool, arguments in (("analyze", {"recording": "run"}), ("compare", {"base": "run"}), ("check", {"run": "run"})):
        assert isinstance(call(served, tool, **arguments), dict)
    assert state() == before


def test_the_command_speaks_on_its_streams(served: Path) -> None:
    async def ask() -> list[str]:
        program = StdioServerParameters(
            command=sys.executable, args=["-P", "-m", "aisp_trace.cli", "mcp", str(served)], cwd=str(served)
        )
        async with Client(stdio_client(program)) as client:
            result = await client.call_tool("recordings", {})
            return list(json.loads(result.content[0].text)["recordings"])  # type: ignore[union-attr]

    assert "run" in asyncio.run(asyncio.wait_for(ask(), PATIENCE_S))


def test_without_a_folder_or_the_sdk_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", str(tmp_path / "gone")]) == 2
    assert "is no folder" in capsys.readouterr().err
    program = (
        "import sys; sys.modules['mcp'] = None\nfrom aisp_trace.cli.main import main\nsys.exit(main(['mcp', '.']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "pip install 'aisp-trace[mcp]'" in done.stderr
