"""stage(), iteration() and measured(): where ranges go, and that they cost nothing when they go nowhere."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import timeit
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest

from aisp_trace.capture import stages
from aisp_trace.tests.patience import PATIENCE_S
from aisp_trace.traces.errors import UsageError
from aisp_trace.traces.model import STAGE_KINDS

RECORDER_VARIABLES = (stages.RECORDER_VARIABLE, stages.OUTPUT_VARIABLE, *stages.INJECTED)


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh Python whose environment names no recorder but what `variables` say."""
    environment = {k: v for k, v in os.environ.items() if k not in RECORDER_VARIABLES}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_kinds_are_the_trace_models() -> None:
    assert frozenset(STAGE_KINDS) == stages.KINDS


def test_without_a_recorder_nothing_is_imported_and_nothing_is_made() -> None:
    code = """
import sys
from aisp_trace.capture.stages import iteration, measured, stage
with measured(), iteration(), stage("a", kind="h2d", nbytes=5) as inner:
    assert inner is None
assert stage("a") is stage("b", kind="compute") is measured() is iteration()
print([name for name in ("nvtx", "torch", "polars", "plotly", "numpy") if name in sys.modules])
"""
    done = run_python(code)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_an_unknown_kind_is_refused_without_a_recorder_too() -> None:
    with pytest.raises(UsageError, match=r"'h2h'.*kinds are alloc, comm"):
        stages.stage("copy", kind="h2h")


def test_an_unknown_recorder_in_the_environment_is_refused() -> None:
    done = run_python("import aisp_trace.capture.stages", AISP_TRACE_RECORDER="perf")
    assert done.returncode != 0
    assert "AISP_TRACE_RECORDER is 'perf'; it may be nsys or torch" in done.stderr


def one_stage() -> None:
    with stages.stage("load", "h2d", 4096):
        pass


def test_a_stage_without_a_recorder_calls_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it cheap on any machine: it opens what does nothing, whatever it is called with."""
    monkeypatch.setattr(stages, "_emit", None)
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        one_stage()
    finally:
        sys.setprofile(None)
    assert called == ["one_stage", "stage", "__enter__", "__exit__"]


@pytest.mark.nightly
def test_a_stage_without_a_recorder_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise is under 1 us; ten times that is allowed here for slow machines. The least of many is the cost."""
    monkeypatch.setattr(stages, "_emit", None)
    assert min(timeit.repeat(one_stage, number=2000, repeat=20)) / 2000 < 10e-6


class FakeNvtx(ModuleType):
    """Notes what is pushed and popped, and how often an annotation is made."""

    def __init__(self) -> None:
        super().__init__("nvtx")
        self.events: list[Any] = []
        self.made = 0

    def annotate(self, name: str, domain: str, category: str | None, payload: int | None) -> Any:
        self.made += 1
        enter: Callable[..., None] = lambda: self.events.append(("push", name, domain, category, payload))  # noqa: E731

        class Annotation:
            def __enter__(_self) -> None:
                enter()

            def __exit__(_self, *exc: object) -> Literal[False]:
                self.events.append(("pop", name))
                return False

        return Annotation()


@pytest.fixture
def nvtx(monkeypatch: pytest.MonkeyPatch) -> FakeNvtx:
    """A fake nvtx package, with stages emitting to it as under nsys."""
    fake = FakeNvtx()
    monkeypatch.setitem(sys.modules, "nvtx", fake)
    recorder, emit = stages._choose({"AISP_TRACE_RECORDER": "nsys"})
    monkeypatch.setattr(stages, "_recorder", recorder)
    monkeypatch.setattr(stages, "_emit", emit)
    return fake


def test_under_nsys_ranges_carry_domain_category_and_payload(nvtx: FakeNvtx) -> None:
    with stages.measured(), stages.iteration(), stages.stage("load", kind="h2d", nbytes=64):
        pass
    assert nvtx.events == [
        ("push", "measured", "aisp", None, None),
        ("push", "iteration", "aisp", None, None),
        ("push", "load", "aisp", "h2d", 64),
        ("pop", "load"),
        ("pop", "iteration"),
        ("pop", "measured"),
    ]


def test_under_nsys_a_range_closes_when_its_body_raises_and_the_error_passes(nvtx: FakeNvtx) -> None:
    with pytest.raises(ZeroDivisionError), stages.stage("load"):
        raise ZeroDivisionError
    assert nvtx.events[-1] == ("pop", "load")


def test_under_nsys_a_stage_met_before_makes_nothing_new(nvtx: FakeNvtx) -> None:
    for nbytes in (64, 64, 65, None):
        with stages.stage("load", kind="h2d", nbytes=nbytes):
            pass
    assert nvtx.made == 3


@pytest.mark.parametrize("variable", stages.INJECTED)
def test_an_nsys_started_by_hand_is_noticed(variable: str, nvtx: FakeNvtx, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, emit = stages._choose({variable: "/some/library.so"})
    assert recorder == "nsys"
    assert emit is not None


def test_without_the_nvtx_package_stages_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    assert stages._choose({"NVTX_INJECTION64_PATH": "x"}) == ("nsys", None)


THREADS = """
import threading
from aisp_trace.capture.stages import iteration, measured, stage
go, ended = threading.Event(), threading.Event()
def early():                         # exists before the profiler starts
    with stage("unrecorded"): pass
    go.wait()
    for size in (10, 20):
        with stage("early", kind="h2d", nbytes=size): pass
    ended.set()
first = threading.Thread(target=early); first.start()
with measured(), iteration():
    go.set(); ended.wait()
    def late():                      # made while the profiler runs
        with stage("outer"), stage("late", kind="compute"): pass
    second = threading.Thread(target=late); second.start(); second.join()
    try:
        with stage("fails"): raise ValueError
    except ValueError:
        pass
first.join()
with stage("after"): pass
"""


@pytest.fixture(scope="module")
def torch_recording(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`THREADS` under the torch recorder: the trace's annotations and the side file's ranges."""
    pytest.importorskip("torch", reason="torch is not installed")
    folder = tmp_path_factory.mktemp("recording") / "new"
    done = run_python(THREADS, AISP_TRACE_RECORDER="torch", AISP_TRACE_OUTPUT=str(folder))
    assert done.returncode == 0, done.stderr
    with gzip.open(folder / "trace.json.gz", "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    side = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    ours = [e for e in events if e.get("cat") in ("user_annotation", "cpu_op") and e["name"].startswith("aisp::")]
    annotations = [e | {"name": e["name"].removeprefix("aisp::")} for e in ours]
    return SimpleNamespace(annotations=annotations, side=side, ranges=side["ranges"])


def test_torch_recorder_sees_threads_from_before_and_from_within(torch_recording: SimpleNamespace) -> None:
    names = Counter(event["name"] for event in torch_recording.annotations)
    assert names == {"measured": 1, "iteration": 1, "early": 2, "outer": 1, "late": 1, "fails": 1}


def test_torch_recorders_side_file_matches_its_trace(torch_recording: SimpleNamespace) -> None:
    in_trace = Counter((event["tid"], event["name"]) for event in torch_recording.annotations)
    assert torch_recording.side["schema"] == "aisp-trace/stages/1"
    assert Counter((row["tid"], row["name"]) for row in torch_recording.ranges) == in_trace


def test_torch_recorders_side_file_holds_kinds_and_bytes_by_index(torch_recording: SimpleNamespace) -> None:
    early = [(r["index"], r["kind"], r["nbytes"]) for r in torch_recording.ranges if r["name"] == "early"]
    late = [(r["index"], r["kind"], r["nbytes"]) for r in torch_recording.ranges if r["name"] == "late"]
    assert early == [(0, "h2d", 10), (1, "h2d", 20)]
    assert late == [(0, "compute", None)]


def test_torch_recorder_leaves_no_trace_of_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    code = "from aisp_trace.capture.stages import measured\nwith measured(): raise SystemExit(5)"
    done = run_python(code, AISP_TRACE_RECORDER="torch", AISP_TRACE_OUTPUT=str(tmp_path))
    assert done.returncode == 5
    assert list(tmp_path.iterdir()) == []


def test_torch_recorder_needs_a_folder() -> None:
    code = "from aisp_trace.capture.stages import measured\nwith measured(): pass"
    done = run_python(code, AISP_TRACE_RECORDER="torch")
    assert "AISP_TRACE_OUTPUT names no folder" in done.stderr


def test_a_decorated_function_is_a_range_at_each_call(nvtx: FakeNvtx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the torch recorder the decorator is met before `measured` opens, and asks again at every call."""
    noted: list[str] = []

    @contextlib.contextmanager
    def emit(name: str, kind: str | None, nbytes: int | None) -> Iterator[None]:
        noted.append(f"{name} {kind} {nbytes}")
        yield

    monkeypatch.setattr(stages, "_recorder", "torch")
    monkeypatch.setattr(stages, "_emit", None)

    @stages.stage("load", kind="h2d", nbytes=8)
    def load(x: int, *, y: int = 0) -> int:
        """Loads."""
        return x + y

    assert (load(1, y=2), noted, load.__doc__) == (3, [], "Loads.")
    monkeypatch.setattr(stages, "_emit", emit)
    assert (load(1), load(2), noted) == (1, 2, ["load h2d 8"] * 2)


def test_without_a_recorder_a_decorated_function_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_emit", None)
    monkeypatch.setattr(stages, "_recorder", None)
    assert stages.stage("load")(one_stage) is one_stage


def test_the_real_nvtx_decorates() -> None:
    pytest.importorskip("nvtx", reason="nvtx is not installed")
    program = (
        "from aisp_trace import stage\n"
        "@stage('load')\n"
        "def load(x): return x + 1\n"
        "assert load(1) == 2 and load.__name__ == 'load'"
    )
    done = run_python(program, AISP_TRACE_RECORDER="nsys")
    assert done.returncode == 0, done.stderr
