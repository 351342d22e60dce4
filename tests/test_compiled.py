"""Compiled code that is kept: loaded without numba, refused where it is damaged or foreign, same answers from numba."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from aisp_trace.tests.optional import needs_numba
from aisp_trace.traces import compiled

pytestmark = needs_numba

SOURCE = '''
import numpy as np
from aisp_trace.traces.compiled import INT64, NOTHING, Unit, array

UNIT = Unit(__name__, __file__)

@UNIT.helper
def _double(x):
    return 2 * x

@UNIT.primitive(INT64, (array("int64"), INT64), (array("int32"), INT64))
def doubled_above(values, limit):
    """Twice the sum of the values above `limit`."""
    total = np.int64(0)
    for v in values:
        if v > limit:
            total += _double(v)
    return total

@UNIT.primitive(NOTHING, (array("float64", 2), array("bool", writable=True)))
def positive(table, out):
    for i in range(table.shape[0]):
        out[i] = table[i, 0] > 0 and table[i, table.shape[1] - 1] > 0

UNIT.load()
'''


def load(folder: Path, name: str = "some_primitives", source: str = SOURCE) -> ModuleType:
    """The module of `source` in `folder`, executed anew."""
    file = folder / f"{name}.py"
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(module: ModuleType) -> list[object]:
    table = np.array([[1.0, -1.0, 2.0], [1.0, 1.0, -2.0]])
    out = np.zeros(2, bool)
    assert module.positive(table, out) is None
    return [
        module.doubled_above(np.array([1, 5, 7]), 4),
        module.doubled_above(np.array([1, 5, 7], np.int32), 6),
        module.doubled_above(np.empty(0, np.int64), 0),
        out.tolist(),
    ]


EXPECTED = [24, 14, 0, [True, False]]


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "__pycache__").glob("*.code"))


def test_code_is_compiled_once_and_answers_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tmp_path)
    assert answers(first) == EXPECTED
    assert first.doubled_above.plain(np.array([1, 5, 7]), 4) == 24
    (file,) = kept(tmp_path)
    monkeypatch.setattr(compiled.Unit, "_compile", lambda self: pytest.fail("compiled again"))
    assert answers(load(tmp_path)) == EXPECTED
    assert kept(tmp_path) == [file]


def test_kept_code_needs_no_numba() -> None:
    code = (
        "import sys; from aisp_trace.analyze import acceleration, fast; from aisp_trace.traces.nsys import pages;"
        "assert pages.decoder() and acceleration.accelerated(10**9); print('numba' in sys.modules)"
    )
    ran = [subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True) for _ in range(2)]
    assert ran[-1].stdout == "False\n", ran[-1].stderr


@pytest.mark.parametrize("harm", ["cut", "flipped", "head", "empty", "writable by all"])
def test_code_that_may_not_be_right_is_made_again(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path)
    (file,) = kept(tmp_path)
    good = file.read_bytes()
    middle = len(good) - 100
    file.write_bytes(
        {
            "cut": good[:-1],
            "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
            "head": b"{}" + good[2:],
            "empty": b"",
            "writable by all": good,
        }[harm]
    )
    file.chmod(0o666 if harm == "writable by all" else 0o644)
    compile_, again = compiled.Unit._compile, []

    def counted(unit: compiled.Unit) -> compiled.Code:
        again.append(unit)
        return compile_(unit)

    monkeypatch.setattr(compiled.Unit, "_compile", counted)
    assert answers(load(tmp_path)) == EXPECTED
    assert len(again) == 1
    assert file.stat().st_mode & 0o777 == 0o644
    assert answers(load(tmp_path)) == EXPECTED
    assert len(again) == 1


def test_other_sources_get_other_code(tmp_path: Path) -> None:
    load(tmp_path)
    changed = load(tmp_path, source=SOURCE.replace("return 2 * x", "return 3 * x"))
    assert changed.doubled_above(np.array([1, 5, 7]), 4) == 36
    assert len(kept(tmp_path)) == 2


def test_where_nothing_can_be_kept_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__pycache__").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert answers(load(tmp_path)) == EXPECTED


def test_the_users_cache_folder_is_the_second_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__pycache__").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert answers(load(tmp_path)) == EXPECTED
    assert len(list((tmp_path / "cache" / "aisp-trace").glob("some_primitives.*.code"))) == 1


def test_numba_calls_its_own_code_where_the_layout_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_shape", lambda one: "float")
    assert answers(load(tmp_path)) == EXPECTED
    assert kept(tmp_path) == []


def test_code_that_calls_others_is_not_kept(tmp_path: Path) -> None:
    """A process without numba may lack what it calls, and would end at once."""
    calling = SOURCE.replace("import numpy", "import math\nimport numpy").replace(
        "return 2 * x", "return x + x + int(math.erf(x) / 2)"
    )
    assert answers(load(tmp_path, source=calling)) == EXPECTED
    assert kept(tmp_path) == []


def test_what_allocates_does_not_compile(tmp_path: Path) -> None:
    """It would need numba's runtime, which is not there in a process without numba."""
    allocating = SOURCE.replace("total = np.int64(0)", "total = np.zeros(len(values) + 1, np.int64)[0]")
    with pytest.raises(Exception, match="zeros"):
        load(tmp_path, source=allocating)


@pytest.mark.parametrize(
    ("table", "out"),
    [
        (np.ones((2, 2), np.float32), np.zeros(2, bool)),
        (np.ones((2, 4))[:, ::2], np.zeros(2, bool)),
        (np.ones((2, 2, 1)), np.zeros(2, bool)),
        (np.ones((2, 2)), np.zeros(2, np.int8)),
        (np.ones((2, 2)), np.broadcast_to(np.zeros(1, bool), 2)),
    ],
)
def test_arrays_of_other_types_are_refused(table: object, out: object, tmp_path: Path) -> None:
    module = load(tmp_path)
    with pytest.raises(TypeError):
        module.positive(table, out)


def test_read_only_arrays_are_taken_where_nothing_is_written(tmp_path: Path) -> None:
    module = load(tmp_path)
    values, out = np.array([1, 5, 7]), np.zeros(2, bool)
    values.flags.writeable = out.flags.writeable = False
    assert module.doubled_above(values, 4) == 24
    with pytest.raises(TypeError, match="takes a contiguous writable array of bool"):
        module.positive(np.ones((2, 2)), out)
    with pytest.raises(TypeError):
        module.doubled_above(4, values)
    with pytest.raises((TypeError, ValueError)):
        module.doubled_above(values)


def test_compiled_code_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.OFF, "1")
    with pytest.raises(ImportError, match=compiled.OFF):
        load(tmp_path)


def test_a_loader_that_may_not_compile_takes_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "kept_or_not.py").write_text(SOURCE)
    tried: list[bool] = []

    class Counting(compiled.Loader):
        def _import(self, *, only_kept: bool) -> ModuleType | None:
            tried.append(only_kept)
            return super()._import(only_kept=only_kept)

    loader = Counting("kept_or_not", None)
    assert loader.get(compiling=False) is None
    assert loader.get(compiling=False) is None
    assert tried == [True]  # looked for once
    assert kept(tmp_path) == []
    made = loader.get()
    assert made is not None and answers(made) == EXPECTED
    assert loader.get(compiling=False) is made
    monkeypatch.delitem(sys.modules, "kept_or_not")
    again = compiled.Loader("kept_or_not", None).get(compiling=False)
    assert again is not None and again is not made and answers(again) == EXPECTED
