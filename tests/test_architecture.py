"""The import rule: arrows between the folders point down only, and what must stay light imports nothing heavy.

traces        none of ours
capture       the modules of traces that need only the standard library: run, errors, scrub, calibration; expectations.deciding
kernels       LIGHT of traces, capture; of workloads what looks at a process: running, surroundings, verify
workloads     kernels, capture.stages, traces.run, traces.errors, traces.faults, traces.calibration, traces.documents, traces.heap
analyze       traces
expectations  traces, analyze
report        traces, workloads.catalog, kernels.task, kernels.verify.result, kernels.bench.result, kernels.llm.result, analyze,
              expectations
cli           all
"""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aisp_trace.cli.main import COMMANDS
from aisp_trace.tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]

LIGHT = (
    *("traces.run", "traces.errors", "traces.output", "traces.scrub", "traces.calibration", "traces.hardware_key"),
    *("traces.content", "traces.documents", "traces.faults", "traces.pair_timing", "traces.phases"),
)
"""What a GPU host without the analysis libraries may use."""

ARROWS = {
    "traces": (),
    "kernels": (
        *LIGHT,
        *("traces.places", "traces.version", "capture"),
        *("workloads.running", "workloads.surroundings", "workloads.verify"),
    ),
    "capture": (*LIGHT, "expectations.deciding"),
    "workloads": (
        *("kernels", "capture.stages"),
        *("traces.run", "traces.errors", "traces.faults", "traces.calibration", "traces.documents", "traces.heap"),
    ),
    "analyze": ("traces",),
    "expectations": ("traces", "analyze"),
    "report": (
        *("traces", "workloads.catalog", "kernels.task", "kernels.verify.result", "kernels.bench.result"),
        "kernels.llm.result",
        *("analyze", "expectations"),
    ),
    "cli": ("traces", "kernels", "workloads", "capture", "analyze", "expectations", "report"),
}


OFFERED = (
    *("traces.shown", "traces.frames", "analyze", "capture.stages", "capture.answer"),
    *("expectations.comparing.api", "expectations.judging.api", "report.figures", "report.frames", "report.notebook"),
)
"""What the package itself offers, imported when it is asked for."""

ROOMS = {
    "traces": ("nsys", "kineto", "scrub"),
    "analyze": ("naming", "attribution", "accounts", "headroom", "findings", "comparison", "ranks"),
    "expectations": ("metrics", "claims", "judging", "accepting", "comparing"),
    "kernels": ("tasks", "verify", "bench", "llm"),
    "report": ("documents", "page", "terminal", "ranks", "ci", "export", "results"),
}
"""The folders within a folder; each may use those before it and what lies beside them."""


def modules_of(folder: str) -> list[Path]:
    """The modules in `folder`; scripts that only lie in a data folder (the recipes of samples) are none."""
    return sorted(file for file in (ROOT / folder).rglob("*.py") if (file.parent / "__init__.py").exists())


def imported(source: str, package: str) -> list[tuple[int, str]]:
    """(line, absolute name) of every import in `source`, a module of `package`, at any depth.

    ``from x import y`` gives ``x.y``, since y may be a module; ``import_module`` and ``__import__`` count where
    their argument is a literal.
    """
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                text = node.args[0].value
                level = len(text) - len(text.lstrip("."))
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                names.append((node.lineno, ".".join([*above, text.lstrip(".")])))
    return names


def violations(source: str, package: str) -> list[str]:
    """What `source`, a module of `package` (``aisp_trace.analyze``), imports against the arrows; one line each."""
    folder = package.split(".")[1] if "." in package else ""
    allowed = (*ARROWS.get(folder, ()), folder) if folder else OFFERED
    found = []
    for line, name in imported(source, package):
        top, _, inner = name.partition(".")
        if top in ARROWS:
            found.append(f"line {line}: `import {top}` is never ours; import it relatively")
        elif top == "aisp_trace" and not any(inner == a or inner.startswith(a + ".") for a in allowed):
            found.append(f"line {line}: {folder or 'the root'} imports {inner or top}")
    return found


def test_arrows_point_down() -> None:
    found = []
    for folder in ARROWS:
        for file in modules_of(folder):
            package = ".".join(["aisp_trace", *file.relative_to(ROOT).parent.parts])
            found += [f"{file.relative_to(ROOT)}: {v}" for v in violations(file.read_text(encoding="utf-8"), package)]
    assert found == []
    assert violations((ROOT / "__init__.py").read_text(encoding="utf-8"), "aisp_trace") == []


def uses() -> dict[str, set[str]]:
    """Each module of ours by its dotted name without the package's -> those it imports, for the type checker too."""
    files = {".".join(f.relative_to(ROOT).with_suffix("").parts): f for folder in ARROWS for f in modules_of(folder)}
    names = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph = {}
    for name, file in names.items():
        package = ".".join(["aisp_trace", *file.relative_to(ROOT).parent.parts])
        found = {n.removeprefix("aisp_trace.") for _, n in imported(file.read_text(encoding="utf-8"), package)}
        graph[name] = {n if n in names else n.rpartition(".")[0] for n in found} & set(names) - {name}
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def climbing(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a room from one that is listed after it in `ROOMS`."""

    def place(name: str) -> tuple[str, int]:
        folder, _, rest = name.partition(".")
        room = rest.partition(".")[0]
        rooms = ROOMS.get(folder, ())
        return folder, rooms.index(room) if room in rooms else -1

    found = []
    for name, others in graph.items():
        folder, level = place(name)
        for other in sorted(others):
            if level >= 0 and place(other)[0] == folder and place(other)[1] > level:
                found.append(f"{name} imports {other}")
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(uses()) == []


def test_rooms_use_those_before_them() -> None:
    assert climbing(uses()) == []
    for folder, rooms in ROOMS.items():
        assert {p.parent.name for p in (ROOT / folder).glob("*/__init__.py")} == set(rooms)


def test_planted_circles_and_climbs_are_found() -> None:
    graph = uses()
    graph["traces.errors"] = {"traces.nsys.read"}
    assert circle(graph)
    graph = uses()
    graph["expectations.metrics.registry"].add("expectations.judging.judge")
    graph["analyze.attribution.stages"].add("analyze.accounts.ledger")
    assert climbing(graph) == [
        "analyze.attribution.stages imports analyze.accounts.ledger",
        "expectations.metrics.registry imports expectations.judging.judge",
    ]


def test_a_long_class_of_the_analysis_says_why() -> None:
    for file in modules_of("analyze"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= 150:
                assert "long class because" in (ast.get_docstring(node) or ""), (file.name, node.name)


def long_classes(source: str) -> list[str]:
    """Classes above 150 lines whose docstring gives no reason."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return [
        c.name
        for c in classes
        if (c.end_lineno or 0) - c.lineno >= 150 and "A long class because" not in (ast.get_docstring(c) or "")
    ]


def test_long_classes_say_why() -> None:
    found = [f"{f.relative_to(ROOT)}: {c}" for d in ARROWS for f in modules_of(d) for c in long_classes(f.read_text())]
    assert found == []
    planted = "class A:\n" + "    x = 1\n" * 150
    assert long_classes(planted) == ["A"]
    assert long_classes(planted.replace("A:\n", 'A:\n    """A long class because."""\n')) == []


def test_every_folder_of_ours_has_an_arrow() -> None:
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py") if not p.parent.name.startswith(".")}
    assert packages == set(ARROWS)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("aisp_trace.traces", "from ..analyze import ledger"),
        ("aisp_trace.traces", "from .. import analyze"),
        ("aisp_trace.traces", "def f():\n    import aisp_trace.report.terminal.console"),
        ("aisp_trace.kernels.verify", "from ...workloads.catalog import CATALOG"),
        ("aisp_trace.capture", "from ..traces.model import Trace"),
        ("aisp_trace.capture", "from ..workloads.catalog import CATALOG"),
        ("aisp_trace.workloads", "from ..capture.nsys import record"),
        ("aisp_trace.workloads", "from ..traces import model"),
        ("aisp_trace.analyze", "if TYPE_CHECKING:\n    from ..report import page"),
        ("aisp_trace.expectations", "from aisp_trace.report.page.page import write"),
        ("aisp_trace.report", "import importlib\nimportlib.import_module('aisp_trace.cli.main')"),
        ("aisp_trace.report", "from importlib import import_module\nimport_module('..capture.plan', __package__)"),
        ("aisp_trace.cli.commands", "import kernels"),
        ("aisp_trace.cli", "from traces.model import Trace"),
        ("aisp_trace", "from .traces import model"),
    ],
)
def test_a_planted_violation_is_found(package: str, source: str) -> None:
    assert len(violations(source, package)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("aisp_trace.capture", "from ..traces.run import Manifest\nfrom ..traces import errors\nfrom . import plan"),
        ("aisp_trace.kernels.verify", "from ...capture.nsys import NsysRecorder\nfrom ..task import Task"),
        ("aisp_trace.workloads", "from ..capture.stages import stage\nfrom ..kernels.build import load\nimport torch"),
        ("aisp_trace.analyze", "from ..traces.model import Trace\nfrom .result import Analysis\nimport polars as pl"),
        ("aisp_trace.cli.commands", "from .. import plans\nfrom ...report.page import write\nfrom . import check"),
    ],
)
def test_what_the_arrows_allow_is_silent(package: str, source: str) -> None:
    assert violations(source, package) == []


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("traces", {"torch", "plotly"}),
        ("capture", {"torch", "nvtx", "polars", "plotly", "numpy", "pandas", "pyarrow", "pydantic"}),
        ("analyze", {"torch", "plotly"}),
        ("cli", {"torch"}),
    ],
)
def test_importing_a_folder_loads_nothing_heavy(folder: str, forbidden: set[str]) -> None:
    modules = sorted(
        ".".join(["aisp_trace", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for file in modules_of(folder)
        if file.name != "__main__.py"
    )
    assert loaded_by(f"import {', '.join(modules)}") & forbidden == set()


def test_what_capture_may_use_of_traces_is_light() -> None:
    """`capture` may import these inside a function, where the test above does not look."""
    heavy = {"torch", "nvtx", "polars", "plotly", "numpy", "pandas", "pyarrow", "pydantic"}
    assert loaded_by(f"import {', '.join(f'aisp_trace.{module}' for module in LIGHT)}") & heavy == set()


def test_kernels_are_verified_and_kept_where_the_analysis_is_not_installed() -> None:
    """Between a verdict and its artefacts lies the scrubbing of a recording: on a GPU host without the analysis libraries."""
    heavy = {"polars", "plotly", "pandas", "pyarrow", "pydantic", "msgspec", "adbc_driver_manager", "numba"}
    kept = ("traces.scrub.run", "traces.scrub.nsys", "traces.scrub.personal", "kernels.artifacts")
    ways = ("cli.verifying", "cli.generating", "cli.benching", "cli.commands.kernels", "cli.commands.capture")
    assert loaded_by(f"import {', '.join(f'aisp_trace.{module}' for module in (*kept, *ways))}") & heavy == set()


def test_the_packages_themselves_import_nothing_but_ours() -> None:
    heavy = {"torch", "nvtx", "polars", "plotly", "numpy", "pandas", "pyarrow", "pydantic", "typer"}
    names = ", ".join(f"aisp_trace.{folder}" for folder in ARROWS)
    assert loaded_by(f"import {names}") & heavy == set()


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `statement`."""
    program = f"{statement}\nimport sys\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_readme_and_commands_agree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^    .*|`[^`\n]+`", text, flags=re.MULTILINE)  # indented lines, and what stands in backquotes
    shown = {word for span in code for word in re.findall(r"aisp-trace +([a-z][a-z-]*)", span)}
    assert shown == set(COMMANDS)
