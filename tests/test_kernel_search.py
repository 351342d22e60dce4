"""`kernels search` without a GPU: compiler and verifier are made up, and candidates crash and hang on a processor."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from aisp_trace.cli.main import main
from aisp_trace.kernels import space
from aisp_trace.kernels.bench import gpu, search
from aisp_trace.kernels.bench.result import Searched, Tried, Verified
from aisp_trace.kernels.bench.search import Asked, Compiling, summary, try_all, verify_best
from aisp_trace.kernels.build import CompileError
from aisp_trace.kernels.task import Settings
from aisp_trace.kernels.tasks import find
from aisp_trace.kernels.verify.evidence import Asked as Verification
from aisp_trace.report.terminal.kernel_bench import print_search, settings_text
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import RecorderError

TASK = find("saxpy")
ASKED = Asked(TASK, "float32", [{"count": 1000}])
ALL = list(space.combinations(TASK))

RIGHT = (
    "import torch\ndef run(inputs, outputs):\n    torch.add(inputs['y'], inputs['x'], alpha=2.5, out=outputs['out'])\n"
)
WRONG = "def run(inputs, outputs):\n    outputs['out'].zero_()\n"
CRASH = "import ctypes\ndef run(inputs, outputs):\n    ctypes.string_at(0)\n"
HANG = "import time\ndef run(inputs, outputs):\n    time.sleep(1000)\n"
SLOW = RIGHT.replace("    torch", "    import time; time.sleep(0.005)\n    torch", 1)


# -- trying ---------------------------------------------------------------------------------------------------------


def test_what_crashes_hangs_or_is_wrong_is_named_and_the_rest_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defaults are slow; then, in the order of the space: wrong, crashing, not compiling, hanging, right."""
    texts = [SLOW, WRONG, CRASH, "", HANG, RIGHT]
    monkeypatch.setattr(space, "combinations", lambda task: iter(ALL[: len(texts)]))

    def compiled(settings: Settings) -> Path:
        number = ALL.index(dict(settings))
        if not texts[number]:
            raise CompileError("it failed", "a.cu(1): error: no")
        time.sleep(0.05 * number)
        made = tmp_path / f"{number}.py"
        made.write_text(texts[number], encoding="utf-8")
        return made

    facts, tried = try_all(ASKED, compiled, tmp_path, "cpu", step_s=8.0)
    assert facts is not None and facts["copy_bytes_per_s"] > 0
    assert {ALL.index(dict(one.settings)) for one in tried} == set(range(6))
    assert [ALL.index(dict(one.settings)) for one in tried[:2]] == [5, 0]
    assert tried[0].score_ns < tried[1].score_ns
    said = {ALL.index(dict(one.settings)): one.problem for one in tried if one.problem}
    assert said[1] == "its output is outside the tolerance"
    assert said[2] == "its process was ended by SIGSEGV, at count=1000"
    assert said[3] == "it does not compile: a.cu(1): error: no"
    assert "did not answer within 8 s" in said[4]
    assert not list(tmp_path.glob("*.py")), "what was timed is not kept"


def test_a_combination_that_fails_at_a_shape_is_not_tried_at_the_next(tmp_path: Path) -> None:
    asked = replace(ASKED, shapes=[{"count": 1000}, {"count": 3}, {"count": 127}])
    seen = search._Seen()
    made = [(ALL[0], tmp_path / "a"), None, (ALL[1], tmp_path / "b")]
    shapes = []
    for step in search._steps(asked, made, seen, 1.0):
        if step is None:
            continue
        if step.question["do"] == "device":
            step.answered({})
            continue
        shapes.append((step.question["key"], step.question["shape"]["count"]))
        if shapes[-1] == ("0", 3):
            step.failed("no")
        else:
            step.answered({"event_ns": [shapes[-1][1], 10**6, 1], "tolerance_share": 0.5})
    assert shapes == [("0", 1000), ("0", 3), ("2", 1000), ("2", 3), ("2", 127)]
    assert seen.tried[0] == Tried(ALL[0], (1000,), "no")
    assert seen.tried[1].event_ns == (1000, 3, 127)
    assert seen.tried[1].score_ns == pytest.approx((1000 * 3 * 127) ** (1 / 3))


def given(combinations: Sequence[Settings], compiled: search.Compile, workers: int, deadline: float) -> list[Settings]:
    """What was compiled, in the order in which it was given."""
    with Compiling(combinations, compiled, workers, deadline) as made:
        return [one[0] for one in made if one is not None]


def test_combinations_come_as_they_are_compiled(tmp_path: Path) -> None:
    """The first is given first, though the second is done before it; two at a time."""
    running, most = 0, 0
    lock, second = threading.Lock(), threading.Event()

    def compiled(settings: Settings) -> Path:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        if settings is ALL[0]:
            second.wait(PATIENCE_S)
        elif settings is ALL[1]:
            second.set()
        with lock:
            running -= 1
        return tmp_path

    found = [ALL.index(dict(one)) for one in given(ALL[:6], compiled, 2, math.inf)]
    assert found[0] == 0
    assert sorted(found) == list(range(6))
    assert most == 2


def test_when_the_budget_is_spent_only_the_defaults_are_sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(settings: Settings) -> Path:
        return tmp_path

    assert given(ALL, compiled, 1, -math.inf) == [ALL[0]]
    clock = SimpleNamespace(monotonic=lambda: float(len(some)))
    monkeypatch.setattr(search, "time", clock)
    some: list[Settings] = []
    with Compiling(ALL, compiled, 1, 3.0) as made:
        for one in made:
            some += [] if one is None else [one[0]]
    assert some == ALL[:3], "each takes a second of the three"


# -- verifying ------------------------------------------------------------------------------------------------------


def tried(*times: float) -> list[Tried]:
    """The combinations of the space, the last ones first, so that the defaults are the slowest; ascending times."""
    settings = [ALL[number] for number in range(len(times) - 1, -1, -1)]
    return [Tried(one, (ns,)) for one, ns in zip(settings, times, strict=True)]


def verdict(status: str, ns: float | None, shape: str = "count=1000") -> Any:
    timings = [] if ns is None else [SimpleNamespace(shape=shape, time_ns=ns)]
    return SimpleNamespace(status=status, headline=status, timings=timings)


def verified(
    found: Sequence[Tried], answers: Sequence[Any], asked: Asked = ASKED
) -> tuple[list[Verified], list[Verification]]:
    questions: list[Verification] = []

    def verify(question: Verification) -> Any:
        questions.append(question)
        answer = answers[len(questions) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    written = lambda settings: Path(f"{ALL.index(dict(settings))}.cu")  # noqa: E731
    return verify_best(asked, found, written, verify=verify), questions


def test_the_best_three_and_the_defaults_are_verified_and_the_trace_decides() -> None:
    answers = [
        verdict("verified", 120.0),
        verdict("refused", 50.0),
        verdict("verified", 110.0),
        verdict("verified", 200.0),
    ]
    all_tried = [*tried(100, 101, 102, 103, 104), Tried(ALL[9], problem="no")]
    found, questions = verified(all_tried, answers)
    assert [question.file.name for question in questions] == ["4.cu", "3.cu", "2.cu", "0.cu"]
    assert {(q.task, q.dtype, tuple(q.shapes), q.sanitizer) for q in questions} == {
        ("saxpy", "float32", ("count=1000",), False)
    }
    told = summary(ASKED, "sm_90", {"names": [], "copy_bytes_per_s": 1e12}, all_tried, found, 3.0)
    assert told.best is not None
    assert told.best.tried.settings == ALL[2]
    assert told.exit_code == 0
    assert [round(ns, 6) for ns in told.limits_ns] == [12.0]
    assert (told.valid, len(told.failed)) == (48, 1)


def test_without_a_verified_one_nothing_is_best() -> None:
    for answers, code in (
        ([verdict("refused", 1.0)] * 3, 1),
        ([verdict("cannot tell", None)] * 3, 3),
        ([RecorderError("nsys failed")] * 3, 3),
        ([verdict("refused", 1.0), verdict("cannot tell", None), verdict("refused", None)], 3),
    ):
        all_tried = tried(100, 101, 102)
        found, questions = verified(all_tried, answers)
        assert len(questions) == 3, "the defaults are among the best three"
        told = summary(ASKED, "sm_90", None, all_tried, found, 3.0)
        assert (told.best, told.exit_code) == (None, code)
    assert found[0].trace_ns == (None,) or found[0].trace_ns == (1.0,)
    nothing = summary(ASKED, "sm_90", None, [], [], 3.0)
    assert (nothing.best, nothing.exit_code) == (None, 3)


# -- what is said ---------------------------------------------------------------------------------------------------


def searched() -> Searched:
    """Thirteen combinations, the defaults the last of those that work, and one that fails."""
    all_tried = [*tried(*(1000.0 + n for n in range(13))), Tried(ALL[20], problem="its process was ended by SIGSEGV")]
    answers = [
        verdict("verified", 900.0),
        verdict("refused", None),
        verdict("verified", 950.0),
        verdict("verified", 1200.0),
    ]
    found, _ = verified(all_tried, answers)
    return summary(ASKED, "sm_90", {"names": [], "copy_bytes_per_s": 2.4e10}, all_tried, found, 61.5)


def test_a_search_is_a_table_of_ten_and_the_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_search(searched(), space.defaults(TASK))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[1] == "14 of 48 valid combinations tried in 62 s, 1 of them failed"
    rows = lines[4:15]
    assert [row.split()[0] for row in rows] == [*map(str, range(1, 11)), "defaults"]
    assert rows[0].split()[-7:] == ["1.0", "50", "%", "0.9", "56", "%", "verified"]
    assert rows[10].split()[-7:] == ["1.0", "49", "%", "1.2", "42", "%", "verified"]
    assert f"failed: {settings_text(ALL[20])}: its process was ended by SIGSEGV" in printed
    assert f"best, verified: {settings_text(ALL[12])}" in printed
    changed = [f"--set {n}={v}" for n, v in ALL[12].items() if v != space.defaults(TASK)[n]]
    assert lines[-1] == f"aisp-trace kernels emit saxpy -o saxpy.cu {' '.join(changed)}"
    print_search(replace(searched(), best=None), space.defaults(TASK))
    assert "Nothing could be verified" in capsys.readouterr().out


def test_without_a_gpu_the_defaults_are_shown_and_nothing_is_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    assert main(["kernels", "search", "saxpy", "-o", str(tmp_path / "a.cu")]) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing was searched")
    for name, value in space.defaults(TASK).items():
        assert f"  {name} = {value}\n" in printed
    assert not list(tmp_path.iterdir())


def test_the_best_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(search, "search", lambda asked, say: searched())
    file = tmp_path / "best.cu"
    assert main(["kernels", "search", "saxpy", "-o", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    for name, value in ALL[12].items():
        assert f"//   {name} = {value}\n" in text
    assert (tmp_path / "Makefile").is_file()
    file.write_text(text + "// mine\n", encoding="utf-8")
    assert main(["kernels", "search", "saxpy", "-o", str(file)]) == 2
    monkeypatch.setattr(search, "search", lambda asked, say: replace(searched(), best=None))
    assert main(["kernels", "search", "saxpy", "-o", str(tmp_path / "none.cu")]) == 3
    assert not (tmp_path / "none.cu").exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["saxpi"], "no kernel task is called 'saxpi'"),
        (["saxpy", "--dtype", "float8"], "saxpy has no dtype 'float8'"),
        (["saxpy", "--shape", "count=0"], "write count=N"),
        (["saxpy", "--arch", "90"], "write it like sm_90"),
        (["saxpy", "-o", "README.md"], "README.md does not end with .cu"),
        (["saxpy", "-o", str(Path(__file__).parent / "emulation" / "gone" / "a.cu")], "gone"),
    ],
)
def test_what_cannot_be_searched_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "search", *words]) == 2
    assert says in capsys.readouterr().err
