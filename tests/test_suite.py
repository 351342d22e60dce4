"""The tests themselves depend on neither load, neighbours, the user's folders nor an optional package."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from aisp_trace.capture.leftovers import MARKER, marked
from aisp_trace.tests.patience import PATIENCE_S, wait_until

TESTS = Path(__file__).parent
ROOT = TESTS.parent

CLOCKS = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


def races(source: str) -> Iterator[str]:
    """Where a test looks at a wall clock, or gives something that should happen a fixed number of seconds.

    Less than a second is not a wait but a timeout that is meant to strike.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        owner = (
            node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        )
        if owner == "time" and called in CLOCKS:
            yield f"line {node.lineno}: time.{called}()"
        waits = [k.value for k in node.keywords if k.arg in ("timeout", "timeout_s", "deadline")]
        waits += node.args[:1] if called in ("wait", "join", "communicate") else []
        for value in waits:
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 1:
                yield f"line {node.lineno}: {ast.unparse(node)[:60]}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("time.monotonic()", 1),
        ("run(x, timeout=30)", 1),
        ("record(x, timeout_s=4.0)", 1),
        ("event.wait(20)", 1),
        ("settings(deadline=500)", 1),
        ("run(x, timeout=PATIENCE_S, deadline=None)", 0),
        ("run(x, timeout_s=0.01)", 0),
        ("time.process_time(); event.wait()", 0),
    ],
)
def test_a_race_with_the_clock_is_told_from_a_wait(source: str, found: int) -> None:
    assert len(list(races(source))) == found


def test_no_test_races_a_clock() -> None:
    files = {p.relative_to(TESTS).as_posix(): p for p in TESTS.rglob("*.py")}
    del files["patience.py"]
    for name in ("fuzz/campaign.py", "fuzz/child.py"):  # how long an answer takes is one of the campaign's own rules
        del files[name]
    assert len(files) > 100
    assert {name: found for name, p in files.items() if (found := list(races(p.read_text(encoding="utf-8"))))} == {}


def test_generated_examples_have_no_deadline_and_are_the_same_every_time_in_ci() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert settings.default.derandomize == bool(os.environ.get("CI"))


def test_nothing_of_the_users_folders_is_read() -> None:
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        assert Path.home() / ".cache" not in Path(os.environ[name]).parents
        assert "aisp-trace-tests-" in os.environ[name]


def without_numba() -> dict[str, str]:
    paths = [str(TESTS / "without_numba"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def test_without_numba_holds_in_child_processes() -> None:
    asks = "from aisp_trace.traces import engine; print(engine.compiled(10**9, 'aisp_trace.analyze.compiled'))"
    nested = f"import subprocess, sys; sys.exit(subprocess.run({[sys.executable, '-P', '-c', asks]!r}).returncode)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", nested], env=without_numba(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


def test_the_hostile_loop_ends_with_the_script_even_if_it_is_killed() -> None:
    marker = f"test-hostile-{os.getpid()}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = subprocess.Popen(
        [ROOT / "scripts" / "test-hostile.sh", "--collect-only", "--quiet", "tests/test_bound.py"],
        env={**os.environ, "PATH": path, MARKER: marker},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(marked(marker)) > 1, "the loop")
    script.send_signal(signal.SIGKILL)
    script.wait(PATIENCE_S)
    wait_until(lambda: not marked(marker), "the end of the loop")


def test_the_files_that_ci_tries_without_numba_exist() -> None:
    words = re.search(r"for name in ([a-z_ ]+); do\n +hostile", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert words is not None
    names = words[1].split()
    assert len(names) > 3 and [name for name in names if not (TESTS / f"test_{name}.py").is_file()] == []


def test_what_the_hostile_pass_leaves_out_is_there_and_is_no_workload() -> None:
    text = (ROOT / "scripts" / "test-hostile.sh").read_text(encoding="utf-8")
    (names,) = re.findall(r"for name in ([^;]+); do", text)
    left_out = {name: {p.name for p in TESTS.glob(f"test_{name}*.py")} for name in names.replace("\\", " ").split()}
    assert all(left_out.values()), "a pattern that fits nothing"
    touched = re.compile(
        r"test_(workloads|twins|engine|nsys|kineto|capture|recorder(?!_?ing)|oracle|analyze|goldens|stages)"
    )
    assert not {name for found in left_out.values() for name in found if touched.match(name)}


def test_make_help_names_every_target_for_people() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    (phony,) = re.findall(
        r"^\.PHONY: tests (.*)$", text, re.M
    )  # `make tests` says what is meant: a folder is called so
    assert {*phony.split(), "tests"} == {*re.findall(r"^([a-z-]+):", text, re.M)}
    assert [target for target in phony.split() if not re.search(rf"^#   make {target} ", shown, re.M)] == []


def test_make_test_runs_some_files_alone() -> None:
    """Without a Python to make: what make would run, with and without TESTS."""

    def would_run(*words: str) -> str:
        line = ["make", "--dry-run", "--no-print-directory", "--old-file=.venv", "test", *words]
        # Where make itself runs the tests, it hands its own words down.
        own = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "TESTS", "ARGS")}
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True, env=own)
        return done.stdout.splitlines()[-1]

    assert would_run() == "scripts/check.sh --tests "
    assert would_run("TESTS=tests/test_x.py", "ARGS=-k word") == ".venv/bin/python -P -m pytest tests/test_x.py -k word"


def test_contributing_names_tests_for_every_folder() -> None:
    """Each row's patterns fit files, and each folder of code, or each within it, has a row."""
    rows = re.findall(
        r"^\| (`[a-z_/.]+`[^|]*|[^|`]+)\| (`tests/[^|]+)\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M
    )
    patterns = [pattern for _, cell in rows for pattern in re.findall(r"tests/[\w*.]+", cell)]
    assert len(patterns) > 50
    assert [pattern for pattern in patterns if not list(ROOT.glob(pattern))] == []
    named = " ".join(first for first, _ in rows)
    folders = [
        path.parent.name
        for path in ROOT.glob("*/__init__.py")
        if path.parent.name not in ("tests", "benchmarks", "examples")
    ]
    assert [name for name in folders if f"`{name}/" not in named and f"`{name}.py" not in named] == []
