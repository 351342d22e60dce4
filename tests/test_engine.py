"""When compiled code runs, and that what numba keeps of it is never believed where it may be wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aisp_trace.tests.optional import force, needs_numba
from aisp_trace.tests.oracle.strategies import seeded_case
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.tests.test_oracle import check
from aisp_trace.traces import engine

ROOT = Path(__file__).parents[1]
COMPILED = "aisp_trace.analyze.compiled"
ABSENT = "aisp_trace.analyze.absent"

SOURCE = '''
from numba import int64
from numba.types import Array
from aisp_trace.traces.engine import jit

@jit(int64(Array(int64, 1, "C", readonly=True), int64))
def scaled(values, limit):
    """Twice the sum of the values above `limit`."""
    total = 0
    for v in values:
        if v > limit:
            total += 2 * v
    return total
'''


def load(folder: Path, source: str = SOURCE) -> ModuleType:
    """The module of `source` in `folder`, executed anew."""
    file = folder / "some_primitives.py"
    if (
        not file.exists() or file.read_text(encoding="utf-8") != source
    ):  # older numbas believe code by its source's time
        file.write_text(source, encoding="utf-8")
    engine._made_of.cache_clear()
    spec = importlib.util.spec_from_file_location("some_primitives", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(module: ModuleType) -> int:
    return int(module.scaled(np.array([1, 5, 7]), 4))


def was_kept(module: ModuleType) -> bool:
    return bool(module.scaled.stats.cache_hits)


def kept(folder: Path, ending: str = "nb[ic]") -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"*.{ending}"))


def test_the_first_large_table_turns_a_process_to_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(engine, "_imported", imported.append)
    monkeypatch.setattr(engine, "_turned", False)
    assert engine.compiled(engine.COMPILED_FROM - 1, COMPILED) is None
    assert imported == []
    engine.compiled(engine.COMPILED_FROM, COMPILED)
    engine.compiled(1, COMPILED)
    assert imported == [COMPILED, COMPILED]
    monkeypatch.setenv(engine.OFF, "1")
    assert engine.compiled(10**9, COMPILED) is None
    assert len(imported) == 2


def test_absent_numba_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, compiled=True)
    monkeypatch.setattr(engine, "_imported", lambda module: None)
    check(seeded_case(1))
    said: list[str] = []
    engine.prepare(said.append, COMPILED)
    assert said == ["numba cannot be imported here, without which a large trace takes about twice as long"]


def test_compiling_is_announced_and_a_switch_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(module: str) -> str:
        time.sleep(0.2)
        return module

    said: list[str] = []
    monkeypatch.setattr(engine, "SLOW_LOAD_S", 0.01)
    monkeypatch.setattr(engine, "_imported", slow)
    engine.prepare(said.append, COMPILED)
    assert said == ["preparing compiled code, which takes half a minute the first time"]
    monkeypatch.setenv(engine.OFF, "1")
    engine.prepare(said.append, COMPILED)
    assert len(said) == 1


def test_a_module_that_cannot_be_imported_is_none() -> None:
    assert engine._imported(ABSENT) is None


@pytest.mark.parametrize("statement", ["main(['--help'])", "main(['analyze', '--help'])", "main(['list'])"])
def test_small_work_does_not_import_numba(statement: str) -> None:
    assert not loads_numba(f"from aisp_trace.cli.main import main; {statement}")


def test_importing_all_but_the_compiled_modules_does_not_import_numba() -> None:
    names = (
        ".".join(["aisp_trace", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for folder in ("traces", "analyze", "expectations", "report", "capture", "cli")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in ("compiled.py", "__main__.py") and "samples" not in path.parts
    )
    assert not loads_numba(f"import {', '.join(names)}")


def loads_numba(program: str) -> bool:
    line = [sys.executable, "-P", "-c", f"{program}\nimport sys; print('numba' in sys.modules, file=sys.stderr)"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return done.stderr.splitlines()[-1] == "True"


@needs_numba
def test_code_is_compiled_once(tmp_path: Path) -> None:
    first, second = load(tmp_path), load(tmp_path)
    assert (was_kept(first), was_kept(second)) == (False, True)
    assert answer(first) == answer(second) == 24
    assert {path.suffix for path in kept(tmp_path)} == {".nbi", ".nbc"}


@needs_numba
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_damaged_code_is_made_again(ending: str, content: bytes, tmp_path: Path) -> None:
    load(tmp_path)
    (file,) = kept(tmp_path, ending)
    file.write_bytes(content)
    assert answer(load(tmp_path)) == 24
    again = load(tmp_path)
    assert was_kept(again) and answer(again) == 24


@needs_numba
@pytest.mark.parametrize("also", [False, True], ids=["package", "package and home"])
def test_where_the_package_cannot_be_written(also: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file lies where the folder would have to be, which stops root, too."""
    (tmp_path / "__pycache__").write_text("in the way")
    home = tmp_path / "home"
    home.write_text("in the way") if also else home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert answer(load(tmp_path)) == 24
    again = load(tmp_path)
    assert answer(again) == 24
    assert was_kept(again) != also


@needs_numba
def test_a_full_disk_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert answer(load(tmp_path)) == 24


@needs_numba
def test_code_of_another_source_is_not_believed_though_a_process_ended_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba writes an index and then the code that it names: a process that is interrupted between the two must not leave an
    index of the new source that names the code of the old one."""
    from numba.core import caching

    load(tmp_path)
    changed = SOURCE.replace("2 * v", "3 * v")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(caching.IndexDataCacheFile, "_save_data", interrupted)
        load(tmp_path, changed)
    assert answer(load(tmp_path, changed)) == 36
    assert answer(load(tmp_path)) == 24


@needs_numba
def test_processes_that_compile_at_once_and_one_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "some_primitives.py").write_text(SOURCE, encoding="utf-8")
    program = "import numpy, some_primitives; print(some_primitives.scaled(numpy.array([1, 5, 7]), 4))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / ".dev")])}

    def start() -> subprocess.Popen[str]:
        line = [sys.executable, "-P", "-c", program]
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)

    killed, *others = (start() for _ in range(3))
    time.sleep(1)
    killed.kill()
    killed.communicate(timeout=PATIENCE_S)
    assert [p.communicate(timeout=PATIENCE_S)[0] for p in others] == ["24\n", "24\n"]
    assert start().communicate(timeout=PATIENCE_S)[0] == "24\n"


@needs_numba
@pytest.mark.parametrize("values", [np.ones(3), np.ones(3, np.int32), np.arange(6)[::2], [1, 5, 7]])
def test_arguments_of_other_types_are_refused(values: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        load(tmp_path).scaled(values, 4)
