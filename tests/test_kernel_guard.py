"""The guard lets a kernel run where everything fits, and says what does not; switches put back what was there.

A fake machine stands for GPU, nvcc and library, so that every reason can be tried on a processor; one test drives the real
loader with a library that g++ makes of an emitted file.
"""

from __future__ import annotations

import ctypes
import json
import logging
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aisp_trace.kernels import build, guard
from aisp_trace.kernels.artifacts import PROVENANCE, VERIFICATION, digest_of, folder_of
from aisp_trace.kernels.guard import REASONS, Decision, KernelRefused, NotUsed, kernel, unready
from aisp_trace.kernels.task import Task
from aisp_trace.kernels.tasks import find
from aisp_trace.tests.builders.kernel_artifacts import keep
from aisp_trace.tests.patience import PATIENCE_S

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

from aisp_trace.kernels.switches import cuda_graphs, torch_compile
from aisp_trace.tests.oracle.deviation import deviation

MARK = 42.0


class Fake:
    """A machine on which a kernel writes `MARK` everywhere."""

    def __init__(self, arch: str = "sm_90", compiler: str = "nvcc 13.0", wrong: str = "") -> None:
        self._arch, self._compiler, self._wrong = arch, compiler, wrong
        self.loaded: list[tuple[Path, str]] = []

    def arch(self, tensor: torch.Tensor) -> str:
        return self._arch

    def compiler(self) -> str:
        if not self._compiler:
            raise build.NoCompilerError("there is no nvcc")
        return self._compiler

    def load(self, source: Path, task: Task, dtype: str, arch: str) -> Any:
        self.loaded.append((source, dtype))
        if self._wrong == "load":
            raise build.KernelError("it has no aisp_launch")

        def run(inputs: Any, outputs: Any, shape: Any) -> None:
            if self._wrong == "launch":
                raise KernelRefused("aisp_launch returned -2")
            for tensor in outputs.values():
                tensor.fill_(MARK)

        return run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a source in it, and rmsnorm enabled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(guard.VARIABLE, "softmax, rmsnorm")
    Path("test.cu").write_text("// a kernel\n", encoding="utf-8")
    yield tmp_path


ROOT = Path("artifacts")
SOURCE = Path("test.cu")
INPUTS = {"x": (64, 32), "weight": (32,)}


def inputs(rows: int = 8, columns: int = 32, dtype: Any = torch.float32) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(rows, columns).to(dtype), "weight": torch.randn(columns).to(dtype)}


def called(given: dict[str, torch.Tensor], machine: Any = None, **asked: Any) -> tuple[Any, Decision]:
    """The output and the decision of one call, whose warning is part of the decision."""
    rmsnorm = kernel("rmsnorm", machine=machine or Fake(), **{"path": SOURCE, **asked})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = rmsnorm(**given)
    assert [str(one.message) for one in told] == (
        [] if rmsnorm.decision.used else [f"{rmsnorm.decision.reason}; PyTorch's own operations run instead"]
    )
    assert rmsnorm.decide(**given).code in (rmsnorm.decision.code, "")
    return found, rmsnorm.decision


def test_a_verified_kernel_runs() -> None:
    keep(ROOT, SOURCE)
    found, decision = called(inputs())
    assert decision == Decision(True, "rmsnorm", "", "", decision.sha256)
    assert found.shape == (8, 32)
    assert (found == MARK).all()


def test_without_a_path_the_newest_verified_source_runs() -> None:
    keep(ROOT, SOURCE, created_utc="2026-11-30T00:00:02Z")
    other = Path("other.cu")
    other.write_text("// another\n", encoding="utf-8")
    keep(ROOT, other, created_utc="2026-11-30T00:00:01Z")
    keep(ROOT, other, created_utc="2026-11-30T00:00:03Z", dtype="float16")
    machine = Fake()
    _, decision = called(inputs(), machine, path=None)
    assert decision.used
    assert [source.read_text(encoding="utf-8") for source, _ in machine.loaded] == ["// a kernel\n"]


def spoil(kept: Path) -> None:
    """An edit of the verdict alone."""
    document = json.loads((kept / VERIFICATION).read_text(encoding="utf-8"))
    (kept / VERIFICATION).write_text(json.dumps({**document, "status": "verified"}), encoding="utf-8")


def not_enabled(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    patch.setenv(guard.VARIABLE, "rmsnorms,softmax")
    return {}


def no_gpu(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"machine": Fake(arch="")}


def strided(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"given": {**inputs(), "x": torch.randn(32, 8).t()}}


def needs_gradient(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    given = inputs()
    return {"given": {**given, "weight": torch.nn.Parameter(given["weight"])}}


def no_stamp(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {}


def other_source(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    SOURCE.write_text("// a better kernel\n", encoding="utf-8")
    return {}


def copy_changed(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    (keep(ROOT, SOURCE).parent / "source.cu").write_text("// a worse kernel\n", encoding="utf-8")
    return {"path": None}


def edited(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    spoil(keep(ROOT, SOURCE, status="refused"))
    return {}


def damaged(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    (keep(ROOT, SOURCE) / PROVENANCE).write_text("{", encoding="utf-8")
    return {}


def refused(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE, status="refused")
    return {}


def no_compiler(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"machine": Fake(compiler="")}


def other_compiler(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE, nvcc="nvcc 12.4")
    return {}


def other_architecture(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE, arch="sm_100")
    return {}


def other_dtype(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE, dtype="bfloat16")
    return {}


def unknown_dtype(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"given": inputs(dtype=torch.float64)}


def too_many_rows(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"given": inputs(rows=65)}


def too_many_bytes(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"given": inputs(rows=64, columns=128)}


def no_shapes(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE, shapes=())
    return {}


def does_not_load(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"machine": Fake(wrong="load")}


def does_not_launch(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    keep(ROOT, SOURCE)
    return {"machine": Fake(wrong="launch")}


CASES = [
    (not_enabled, "not_enabled", "rmsnorm is experimental and not enabled; set AISP_KERNELS=rmsnorm"),
    (no_gpu, "no_gpu", "the inputs of rmsnorm are not on a GPU"),
    (strided, "inputs", "are not contiguous, or empty (x)"),
    (needs_gradient, "inputs", "need a gradient, which no kernel computes (weight)"),
    (no_stamp, "no_stamp", "no verification of rmsnorm lies in artifacts/kernels; run `aisp-trace kernels verify"),
    (other_source, "source", "test.cu is not a source of rmsnorm that was verified"),
    (copy_changed, "source", "source.cu is not what was verified"),
    (edited, "edited", "verification.json is not what was written when the kernel was verified"),
    (damaged, "edited", "the verification of rmsnorm is not believed"),
    (refused, "refused", "the verdict on rmsnorm was refused"),
    (no_compiler, "no_compiler", "rmsnorm cannot be compiled: there is no nvcc"),
    (other_compiler, "compiler", "rmsnorm was verified with nvcc 12.4, and here is nvcc 13.0"),
    (other_architecture, "architecture", "rmsnorm was verified on sm_100, and this GPU is sm_90"),
    (other_dtype, "dtype", "rmsnorm was verified for bfloat16, and is asked for float32"),
    (unknown_dtype, "dtype", "rmsnorm was verified for float32, and is asked for float64"),
    (too_many_rows, "shape", "rmsnorm was verified for rows from 1 to 64, and it is 65"),
    (too_many_bytes, "shape", "rmsnorm was verified up to 16,512 bytes, and needs 66,048"),
    (no_shapes, "shape", "names no shapes"),
    (does_not_load, "load", "test.cu could not be loaded: it has no aisp_launch"),
    (does_not_launch, "launch", "rmsnorm was not launched: aisp_launch returned -2"),
]


@pytest.mark.parametrize(("prepare", "code", "said"), CASES, ids=[case[0].__name__ for case in CASES])
def test_else_pytorch_runs_and_the_guard_says_why(
    prepare: Any, code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prepare(monkeypatch)
    given = asked.pop("given", None) or inputs()
    found, decision = called(given, asked.pop("machine", None), **asked)
    assert (decision.used, decision.code, decision.sha256) == (False, code, "")
    assert said in decision.reason
    shape = {"rows": given["x"].shape[0], "columns": given["x"].shape[1]}
    assert torch.equal(found, find("rmsnorm").eager(given, shape, "float32")["out"])


def test_every_reason_is_tried() -> None:
    assert {code for _, code, _ in CASES} == set(REASONS)


def test_a_whole_forgery_is_believed_as_the_docs_say() -> None:
    """Whoever writes verdict and digest writes a stamp: it is not a signature."""
    kept = keep(ROOT, SOURCE, status="refused")
    spoil(kept)
    provenance = json.loads((kept / PROVENANCE).read_text(encoding="utf-8"))
    provenance["files"][VERIFICATION] = digest_of((kept / VERIFICATION).read_bytes())
    (kept / PROVENANCE).write_text(json.dumps(provenance), encoding="utf-8")
    assert called(inputs())[1].used


def test_a_reason_is_told_once_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    keep(ROOT, SOURCE)
    rmsnorm = kernel("rmsnorm", SOURCE, machine=Fake(), logger=logging.getLogger("mine"))
    for rows in (65, 66, 8, 67):
        rmsnorm(**inputs(rows))
    rmsnorm(**inputs(dtype=torch.float16))
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "rmsnorm was verified for rows from 1 to 64, and it is 65",
        "rmsnorm was verified for float32, and is asked for float16",
    ]


def test_the_switch_is_asked_at_each_call_and_can_be_set_in_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(ROOT, SOURCE)
    rmsnorm = kernel("rmsnorm", SOURCE, machine=Fake())
    assert rmsnorm.decide(**inputs()).used
    monkeypatch.delenv(guard.VARIABLE)
    assert rmsnorm.decide(**inputs()).code == "not_enabled"
    assert kernel("rmsnorm", SOURCE, machine=Fake(), enabled=True).decide(**inputs()).used
    for words in ("all", "rmsnorm", "softmax,rmsnorm"):
        assert guard.is_enabled("rmsnorm", {guard.VARIABLE: words})
    environ: dict[str, str] = {}
    guard.enable(["rmsnorm"], environ)
    guard.enable(["softmax", "rmsnorm"], environ)
    assert environ == {guard.VARIABLE: "rmsnorm,softmax"}


def test_what_can_be_told_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_compiler", lambda: "nvcc 13.0")
    assert "no verification of rmsnorm lies in" in unready("rmsnorm", "float32")
    keep(ROOT, SOURCE, arch="sm_120")
    assert unready("rmsnorm", "float32") == ""
    assert "was verified for float32" in unready("rmsnorm", "bfloat16")
    assert "set AISP_KERNELS=rotary" in unready("rotary", "float32")


def test_inputs_that_do_not_fit_the_task_are_the_caller_s_error() -> None:
    rmsnorm = kernel("rmsnorm", SOURCE, machine=Fake())
    for given, said in (
        ({"x": torch.ones(2, 3)}, "rmsnorm takes x, weight, and was given x"),
        ({"x": torch.ones(2, 3), "weight": torch.ones(4)}, r"takes weight\[columns\] of float32, .* shape \[4\]"),
        ({"x": torch.ones(2, 3), "weight": torch.ones(3).half()}, "of float16"),
        ({"x": torch.ones(2), "weight": torch.ones(2)}, r"takes x\[rows, columns\]"),
    ):
        with pytest.raises(ValueError, match=said):
            rmsnorm(**given)
    with pytest.raises(KeyError):
        kernel("rmsnrom")


def test_several_outputs_are_a_dict_and_a_task_without_its_own_type_is_told_it() -> None:
    both = kernel("layernorm_residual", machine=Fake(), enabled=False, logger=logging.getLogger("mine"))
    row = torch.randn(3, 5)
    assert set(both(x=row, residual=row, weight=row[0].clone(), bias=row[1].clone())) == {"out", "summed"}
    quiet = logging.getLogger("mine")
    scaled = kernel("int8_dequantise", machine=Fake(), enabled=False, dtype="float16", logger=quiet)
    assert scaled(q=torch.ones(2, 3, dtype=torch.int8), scale=torch.ones(2)).dtype == torch.float16


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_the_real_loader_launches_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an emitted file computes, compiled by g++ for the processor, through the guard's own loader."""
    from aisp_trace.tests.test_kernel_emulated import compiled, emitted

    library = compiled(emitted("rmsnorm", {}), tmp_path / "emulated")
    source = tmp_path / "emulated" / "test.cu"
    keep(ROOT, source)
    emulated = ctypes.CDLL(str(library))
    emulated.emulated_forget()  # what tests before this one announced: libraries share it
    announce = emulated.emulated_announce
    announce.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    announce(1 << 12, 1 << 47)  # every address may be used
    monkeypatch.setattr(build, "build", lambda source, capability, compiler: library)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    monkeypatch.setattr(guard.Cuda, "arch", lambda self, tensor: "sm_90")
    monkeypatch.setattr(guard, "_compiler", lambda: "nvcc 13.0")
    task, given = find("rmsnorm"), inputs()
    found, decision = called(given, guard.Cuda(), path=source)
    assert decision.used, decision.reason
    expected = task.reference(given, {"rows": 8, "columns": 32})["out"]
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-6)
    keep(ROOT, source, task="softmax", shapes=("rows=1,columns=1", "rows=64,columns=64"))
    softmax = kernel("softmax", source, machine=guard.Cuda())
    assert "it was made for the task 'rmsnorm'" in softmax.decide(x=given["x"]).reason


def on_a_gpu() -> bool:
    try:
        build.find_nvcc()
    except build.NoCompilerError:
        return False
    return bool(torch.cuda.is_available())


@pytest.mark.skipif("not on_a_gpu()", reason="there is no GPU, or no nvcc")
@pytest.mark.parametrize("name", ["rmsnorm", "layernorm_residual", "int8_dequantise"])
def test_on_a_gpu_it_runs_on_the_current_stream_and_in_a_graph(name: str) -> None:
    from aisp_trace.tests.test_kernel_emulated import emitted

    task = find(name)
    dtype, shape = task.dtypes[0], {"rows": 33, "columns": 1024}
    SOURCE.write_text(emitted(name, {}), encoding="utf-8")
    arch, nvcc = "sm_{}{}".format(*torch.cuda.get_device_capability()), guard.Cuda().compiler()
    compared = ("rows=1,columns=1", "rows=64,columns=1024")
    keep(ROOT, SOURCE, task=name, dtype=dtype, shapes=compared, arch=arch, nvcc=nvcc)
    guarded = kernel(name, SOURCE, enabled=True)
    given = task.draw(torch.Generator("cuda").manual_seed(1), shape, dtype, "cuda")
    assert guarded.decide(**given).used, guarded.decide(**given).reason

    def right(found: Any) -> None:
        outputs = found if isinstance(found, dict) else {task.outputs[0].name: found}
        for key, expected in task.reference(given, shape).items():
            assert deviation(outputs[key], expected).within(task.tolerances[dtype])

    right(guarded(**given))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = guarded(**given)
    side.synchronize()
    right(found)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = guarded(**given)
    for tensor in given.values():
        if tensor.is_floating_point():
            tensor.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    right(found)
    assert guarded.decision.used
    with pytest.warns(NotUsed, match="verified for rows from 1 to 64"):
        guarded(**task.draw(torch.Generator("cuda"), {"rows": 65, "columns": 8}, dtype, "cuda"))


def test_it_works_inside_torch_compile() -> None:
    keep(ROOT, SOURCE)
    rmsnorm = kernel("rmsnorm", SOURCE, machine=Fake())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doubled = torch.compile(lambda x, weight: rmsnorm(x=x, weight=weight) * 2, backend="eager")
        found = doubled(**inputs())
    assert (found == 2 * MARK).all()
    assert rmsnorm.decision.used


# -- switches ------------------------------------------------------------------------------------------------------


class Counted:
    """A function of torch.compile, and how often it was compiled."""

    def __init__(self) -> None:
        self.times = 0
        torch.compiler.reset()
        self.function = torch.compile(lambda x: x + 1, backend=self._backend, dynamic=False)

    def _backend(self, module: Any, example: Any) -> Any:
        self.times += 1
        return module.forward

    def compiles(self, size: int) -> bool:
        """Whether a call at a size that is new is compiled."""
        before = self.times
        self.function(torch.ones(size))
        return self.times > before


def test_torch_compile_is_switched_off_and_on_and_put_back() -> None:
    counted = Counted()
    assert counted.compiles(1)
    with torch_compile(False):
        assert not counted.compiles(2)
        with torch_compile(True):
            assert counted.compiles(3)
        assert not counted.compiles(4)
    assert counted.compiles(5)
    with pytest.raises(KeyError), torch_compile(False):
        raise KeyError
    assert counted.compiles(6)


def test_a_stance_that_was_there_before_comes_back() -> None:
    counted = Counted()
    with torch.compiler.set_stance("force_eager"):
        with torch_compile(True), torch_compile(False), torch_compile(True):
            assert counted.compiles(1)
        assert not counted.compiles(2)
    assert counted.compiles(3)


def test_scopes_of_threads_that_overlap_end_with_what_was_there() -> None:
    """A scope that saves and restores by itself would leave it off for good here.

    main     |--off-----|
    other       |--off-----|
    """
    counted = Counted()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with torch_compile(False):
            inside.set()
            leave.wait(PATIENCE_S)

    thread = threading.Thread(target=other)
    with torch_compile(False):
        thread.start()
        assert inside.wait(PATIENCE_S)
    assert not counted.compiles(1), "the other thread's scope is still open"
    leave.set()
    thread.join()
    assert counted.compiles(2)


def test_cuda_graphs_are_switched_and_put_back() -> None:
    from torch._inductor import config

    before = config.triton.cudagraphs
    with cuda_graphs(True):
        assert config.triton.cudagraphs is True
        with pytest.raises(KeyError), cuda_graphs(False):
            assert config.triton.cudagraphs is False
            raise KeyError
        assert config.triton.cudagraphs is True
    assert config.triton.cudagraphs == before


def test_the_folder_is_named_by_the_source() -> None:
    kept = keep(ROOT, SOURCE)
    assert kept == folder_of(ROOT, "rmsnorm", digest_of(SOURCE.read_bytes())) / "float32-sm_90"
