"""generated_kernel: each task is a workload of its own, its kernel runs through the guard, and options reach the process."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from aisp_trace.capture import host
from aisp_trace.cli import plans
from aisp_trace.cli.main import main
from aisp_trace.expectations.judging.admissible.plan import option_values
from aisp_trace.kernels import guard
from aisp_trace.kernels.artifacts import digest_of
from aisp_trace.kernels.task import Task
from aisp_trace.kernels.tasks import NAMES, find
from aisp_trace.tests.builders.kernel_artifacts import keep
from aisp_trace.traces.errors import UsageError, WorkloadError
from aisp_trace.traces.run import VariantResult, load_run
from aisp_trace.workloads import catalog, generated_kernel, runner
from aisp_trace.workloads.generated_kernel import Calls, Generated, shape_of
from aisp_trace.workloads.interface import Variant
from aisp_trace.workloads.measure import measure

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(guard.VARIABLE, raising=False)


def result_of(task: str, name: str, variant: Callable[[Calls], Variant] | None = None) -> VariantResult:
    variants = {**generated_kernel.VARIANTS, **({} if variant is None else {name: variant})}
    program = dataclasses.replace(generated_kernel.PROGRAM, variants=variants)
    return measure(program, Calls(CPU, "tiny", 0, task), name, CPU, iterations=3, warmup=1, traced=False)


class Machine:
    """A GPU on which a kernel is what PyTorch computes, times `factor`."""

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor

    def arch(self, tensor: torch.Tensor) -> str:
        return "sm_90"

    def compiler(self) -> str:
        return "nvcc 13.0"

    def load(self, source: Path, task: Task, dtype: str, arch: str) -> Any:
        def run(inputs: Any, outputs: Any, shape: Any) -> None:
            for name, value in task.eager(inputs, shape, dtype).items():
                outputs[name].copy_(value * self._factor)

        return run


def shapes(task: Task) -> list[str]:
    return [",".join(f"{name}={size}" for name, size in shape.items()) for shape in task.shapes]


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_verified_on_a_processor(name: str) -> None:
    found = result_of(name, "baseline")
    assert found.output.ok, found.output
    assert found.proof is not None
    assert found.proof.fresh
    assert found.proof.objections == ()
    assert found.kernels == {}
    task = find(name)
    assert found.output.tolerance == task.tolerances[task.dtypes[0]].norm
    assert task.tolerances[task.dtypes[0]].reason in found.output.reference


@pytest.mark.parametrize("name", ["rmsnorm", "layernorm_residual", "int8_dequantise"])
def test_the_kernel_runs_through_the_guard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.cu").write_text("// kernel\n", encoding="utf-8")
    task = find(name)
    keep(Path("artifacts"), Path("a.cu"), task=name, dtype=task.dtypes[0], shapes=shapes(task))
    monkeypatch.setattr(generated_kernel, "kernel", lambda *a, **k: guard.kernel(*a, **k, machine=Machine()))
    found = result_of(name, "optimized")
    assert found.output.ok
    assert found.proof is not None and found.proof.objections == ()
    assert found.kernels == {name: digest_of(b"// kernel\n")}
    assert dataclasses.replace(found.work, moved_bytes={}) == dataclasses.replace(
        result_of(name, "baseline").work, moved_bytes={}
    )
    monkeypatch.setattr(generated_kernel, "kernel", lambda *a, **k: guard.kernel(*a, **k, machine=Machine(1.01)))
    assert not result_of(name, "optimized").output.ok, "a wrong kernel is caught here too"


def test_what_the_guard_stops_is_an_error_and_no_comparison_of_pytorch_with_itself() -> None:
    with pytest.raises(WorkloadError, match="the inputs of rmsnorm are not on a GPU"):
        result_of("rmsnorm", "optimized")


def test_a_kernel_that_refuses_later_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Machine):
        def load(self, source: Path, task: Task, dtype: str, arch: str) -> Any:
            def run(inputs: Any, outputs: Any, shape: Any) -> None:
                raise guard.KernelRefused("aisp_launch returned 700")

            return run

    Path("a.cu").write_text("// kernel\n", encoding="utf-8")
    keep(Path("artifacts"), Path("a.cu"), shapes=shapes(find("rmsnorm")))
    monkeypatch.setattr(generated_kernel, "kernel", lambda *a, **k: guard.kernel(*a, **k, machine=Once()))
    problem = Calls(CPU, "tiny", 0, "rmsnorm")
    variant = Generated(problem)
    variant.prepare()
    with pytest.warns(guard.NotUsed), pytest.raises(WorkloadError, match="aisp_launch returned 700"):
        variant.iteration()


def test_required_work_is_the_task_s() -> None:
    problem = Calls(CPU, "tiny", 0, "rmsnorm")
    rows, columns = problem.shape["rows"], problem.shape["columns"]
    work = problem.work()
    assert (work.items, work.unit) == (4, "calls")
    assert work.flops == 4 * 4 * rows * columns
    assert work.input_bytes == 4 * 4 * (rows * columns + columns)
    assert work.output_bytes == 4 * 4 * rows * columns


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_that_a_verification_covers(name: str) -> None:
    task = find(name)
    dtype = task.dtypes[0]
    assert shape_of(task, dtype, "cuda", "default") == task.shapes[0]
    small = shape_of(task, dtype, "cpu", "large")
    assert small == shape_of(task, dtype, "cuda", "tiny")
    assert task.bytes(small, dtype) <= 1 << 20
    assert sum(output.nbytes(small, dtype) for output in task.outputs) > 8, "a reference of one value proves nothing"


# -- options -------------------------------------------------------------------------------------------------------


def test_task_and_enabled_kernels_stand_in_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ["--device", "cpu", "--profile", "none", "--rounds", "1", "--size", "tiny", "--dry-run"]
    assert main(["capture", "generated_kernel", "--task", "softmax", *base]) == 0
    head, command = capsys.readouterr().out.splitlines()
    assert head.startswith("# generated_kernel.softmax, profile none")
    assert shlex.split(command)[1:6] == ["-P", "-m", "aisp_trace.workloads.generated_kernel", "--task", "softmax"]
    assert option_values(shlex.split(command), "--variant") == ["baseline"]
    assert main(["capture", "multiple_unoptimized", "--enable-kernel", "bias_gelu", *base]) == 0
    assert "multiple_unoptimized --enable-kernel bias_gelu --variant" in capsys.readouterr().out
    monkeypatch.setenv(guard.VARIABLE, "all")
    assert main(["capture", "multiple_unoptimized", *base]) == 0
    assert "multiple_unoptimized --enable-kernel bias_gelu --variant" in capsys.readouterr().out
    Path("mine.py").write_text("from aisp_trace.workloads import interface\n", encoding="utf-8")
    assert main(["capture", "mine.py", "--enable-kernel", "rotary", "--enable-kernel", "saxpy", *base]) == 0
    assert "mine.py --enable-kernel rotary --enable-kernel saxpy --variant" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generated_kernel"], "generated_kernel needs a task; add --task with one of saxpy, rmsnorm"),
        (["generated_kernel", "--task", "rmsnrom"], "has no task 'rmsnrom'; did you mean 'rmsnorm'?"),
        (["memory_standard", "--task", "rmsnorm"], "--task was given with memory_standard, which has no tasks"),
        (["--task", "rmsnorm"], "--task was given without a workload that has tasks"),
        (["--task", "rmsnorm", "x.py"], "--task was given without a workload that has tasks"),
        (["--task", "rmsnorm", "--", "true"], "--task was given with a command of your own"),
        (["--enable-kernel", "saxpy", "--", "true"], "--enable-kernel was given with a command of your own"),
        (["multiple_unoptimized", "--enable-kernel", "gelu"], "no kernel task is called 'gelu'"),
    ],
)
def test_refusals(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", *words]) == 2
    assert said in capsys.readouterr().err


def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "visible_gpus", lambda: [{"name": "x"}])
    monkeypatch.setattr(host, "cuda_usable", lambda: True)
    monkeypatch.setattr(guard, "_compiler", lambda: "nvcc 13.0")


def options(**changes: Any) -> plans.Options:
    plain = plans.Options("none", None, 1, (), "tiny", "cuda", "auto", 9.0, 0, None, ())
    return dataclasses.replace(plain, **changes)


def test_a_kernel_that_was_not_verified_is_left_out_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    multiple, pair = catalog.find("multiple_unoptimized"), catalog.find("generated_kernel")
    plan = plans.builtin_plan(multiple, options())
    assert "generated" not in plan.names
    assert plan.names[-1] == "optimized"
    assert any("variant generated was left out: the generated kernel bias_gelu is exp" in note for note in plan.notes)
    plan = plans.builtin_plan(multiple, options(kernels=("bias_gelu",)))
    assert any("left out: no verification of bias_gelu lies in artifacts/kernels" in note for note in plan.notes)
    with pytest.raises(UsageError, match="'generated' cannot run: no verification of bias_gelu"):
        plans.builtin_plan(multiple, options(kernels=("bias_gelu",), variants=("baseline", "generated")))
    with pytest.raises(UsageError, match=r"generated_kernel.rmsnorm's variant 'optimized' cannot run: no verification"):
        plans.builtin_plan(pair, options(task="rmsnorm"))
    assert plans.builtin_plan(pair, options(task="rmsnorm", variants=("baseline",))).names == ("baseline",)


def test_a_verified_kernel_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    Path("a.cu").write_text("// kernel\n", encoding="utf-8")
    for task in ("bias_gelu", "rmsnorm"):
        keep(Path("artifacts"), Path("a.cu"), task=task, shapes=shapes(find(task)))
    plan = plans.builtin_plan(catalog.find("generated_kernel"), options(task="rmsnorm"))
    assert (plan.workload, plan.names) == ("generated_kernel.rmsnorm", ("baseline", "optimized"))
    assert "--enable-kernel" not in plan.program
    plan = plans.builtin_plan(catalog.find("multiple_unoptimized"), options(kernels=("bias_gelu",)))
    assert plan.names[-1] == "generated"
    assert plan.variants[-1].changes == "fused"
    assert list(plan.program[-2:]) == ["--enable-kernel", "bias_gelu"]


def test_a_run_is_called_after_its_task_and_is_admissible(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["capture", "generated_kernel", "--task", "saxpy", "--device", "cpu", "--size", "tiny"]
    assert main([*words, "--profile", "none", "--rounds", "1", "--iterations", "2", "--output", "runs"]) == 0
    (folder,) = Path("runs").glob("[!.]*")
    manifest = load_run(folder).manifest
    assert folder.name.startswith("generated_kernel.saxpy-")
    assert manifest.workload == manifest.rounds[0].result.workload == "generated_kernel.saxpy"
    assert option_values(manifest.command_line, "--task") == ["saxpy"]
    assert manifest.kernels == []
    assert any("variant optimized was left out: it needs cuda" in note for note in manifest.notes)
    capsys.readouterr()
    assert main(["check", str(folder)]) == 3
    assert "No claim is about generated_kernel.saxpy" in capsys.readouterr().out


def test_the_program_s_own_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ["--device", "cpu", "--size", "tiny", "--iterations", "1"]
    assert runner.run(generated_kernel.PROGRAM, tiny) == 2
    assert "needs a task" in capsys.readouterr().err
    assert runner.run(generated_kernel.PROGRAM, [*tiny, "--task", "column_sum"]) == 0
    assert "generated_kernel.column_sum on cpu" in capsys.readouterr().out
    monkeypatch.setenv(guard.VARIABLE, "softmax")
    assert runner.run(generated_kernel.PROGRAM, [*tiny, "--task", "saxpy", "--enable-kernel", "rotary"]) == 0
    assert guard.is_enabled("rotary") and guard.is_enabled("softmax")


def test_names_of_runs_lead_to_the_workload() -> None:
    entry = catalog.known("generated_kernel.rotary")
    assert entry is not None
    assert entry.kernels == {"optimized": "rotary"}
    assert entry.module == "aisp_trace.workloads.generated_kernel"
    assert catalog.known("generated_kernel") is None, "without a task it is not a workload"
    assert catalog.known("generated_kernel.x") is None
    assert catalog.known("memory_standard.rotary") is None
    known = catalog.known("memory_standard")
    assert known is not None and known.name == "memory_standard"
