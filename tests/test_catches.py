"""Every broad catch and every own parser stands in docs/reliability.md with its reason; a new one fails until it does.

A catch of `Exception` or `BaseException` is listed by its function, one of `OSError` by its file. A parser is code that takes
apart bytes or text without a library for their form: it is found by its name (`_NAMED`) or by what it calls (`_CALLED`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECTION = "## Broad catches and own parsers"

BROAD = frozenset({"Exception", "BaseException", "bare"})
SYSTEM = frozenset({"OSError", "EnvironmentError", "IOError"})

_NAMED = re.compile(r"_?(parse|decode|tokeni[sz]e|varint|demangle)(d?_|d?$)")
_CALLED = frozenset({"from_bytes", "unpack_from", "iter_unpack", "JSONDecoder", "Decoder", "frombuf", "scanner"})


def catches(tree: ast.AST, where: str = "") -> Iterator[tuple[str, str]]:
    """(function, exception) of each that is caught or suppressed."""
    for node in ast.iter_child_nodes(tree):
        name = where
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{where}.{node.name}".lstrip(".")
        caught: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else []
            if node.type is None:
                yield name, "bare"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
            caught = node.args
        yield from ((name, ast.unparse(one).rpartition(".")[2]) for one in caught)
        yield from catches(node, name)


def parses(tree: ast.AST) -> bool:
    """Whether the module has code that is named as a parser, or calls what only parsers call."""
    return any(
        (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _NAMED.match(node.name) is not None)
        or (isinstance(node, ast.Call) and _takes_apart(node))
        for node in ast.walk(tree)
    )


def _takes_apart(call: ast.Call) -> bool:
    function = ast.unparse(call.func)
    own = function.rpartition(".")[2] in _CALLED or function in ("ast.parse", "struct.unpack")
    return own and not any("urandom" in ast.unparse(one) for one in call.args)


def modules() -> dict[str, ast.AST]:
    """The trees of the package's modules, tests apart, by their paths."""
    folders = [p.parent for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests", ".dev")]
    files = [f for folder in folders for f in sorted(folder.rglob("*.py")) if "samples" not in f.parts]
    assert len(files) > 150
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}


MODULES = modules()


def listed(heading: str) -> list[str]:
    """What stands in backticks in the first column of the table below `heading`, each of which must have a reason."""
    text = PAGE.partition(SECTION)[2].partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    assert all(len(row) == 2 and len(row[1].split()) > 3 for row in rows), heading
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[0])]


def test_every_catch_of_everything_is_listed() -> None:
    found = {
        f"{file}:{function}" for file, tree in MODULES.items() for function, kind in catches(tree) if kind in BROAD
    }
    assert sorted(listed("Exception and BaseException")) == sorted(found)


def test_every_file_that_catches_system_errors_is_listed() -> None:
    found = {file for file, tree in MODULES.items() for _, kind in catches(tree) if kind in SYSTEM}
    assert sorted(listed("OSError")) == sorted(found)


def test_every_own_parser_is_listed() -> None:
    assert sorted(listed("Own parsers")) == sorted(file for file, tree in MODULES.items() if parses(tree))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("try: pass\nexcept: pass", [("", "bare")]),
        ("def f():\n  try: pass\n  except (ValueError, Exception): pass", [("f", "ValueError"), ("f", "Exception")]),
        ("class A:\n  def f(self):\n    with contextlib.suppress(OSError): pass", [("A.f", "OSError")]),
        ("try: pass\nexcept builtins.BaseException as e: raise", [("", "BaseException")]),
    ],
)
def test_catches_are_seen(source: str, expected: list[tuple[str, str]]) -> None:
    assert list(catches(ast.parse(source))) == expected


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("def parse_header(data): ...", True),
        ("def _decoded(data): ...", True),
        ("def parser(): ...", False),
        ("n = int.from_bytes(data, 'big')", True),
        ("tree = ast.parse(text)", True),
        ("found = parse(text, KIND, name)", False),
    ],
)
def test_parsers_are_seen(source: str, is_one: bool) -> None:
    assert parses(ast.parse(source)) is is_one
