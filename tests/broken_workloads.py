"""Every workload's optimized variant, broken in four ways, and what such a variant's process would answer.

    wrong output        right work, a wrong result
    hidden less work    does nothing from the second iteration on, and says nothing of it
    admitted less work  says that it had half of the items to process
    mispredicted bytes  copies as the real one does, and announces a MiB more

The answers are measured here, at size tiny on the CPU, by the same code that measures in a workload's own process.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch

from aisp_trace.tests.test_workloads_bandwidth import OneAnswerWrong
from aisp_trace.tests.test_workloads_ddp import SumsButDoesNotAverage, on_both
from aisp_trace.tests.test_workloads_kv_cache import ReadsOneLess
from aisp_trace.tests.test_workloads_memory import Unclamped
from aisp_trace.tests.test_workloads_multiple import SkipsALayer
from aisp_trace.tests.test_workloads_pipeline import PreviousMicrobatch
from aisp_trace.tests.test_workloads_training import SkipsTheLastStep
from aisp_trace.traces.run import VariantResult, Work
from aisp_trace.workloads import multiple_unoptimized
from aisp_trace.workloads.integrated_kv_cache import Decode
from aisp_trace.workloads.interface import Problem, Program, Variant
from aisp_trace.workloads.measure import measure

CPU: Final = torch.device("cpu")
MEBIBYTE: Final = 1 << 20

Make = Callable[[Any], Variant]


class As(Variant):
    """Another variant, to be broken in one place."""

    def __init__(self, inner: Variant, problem: Problem) -> None:
        self.inner, self.problem = inner, problem

    def prepare(self) -> None:
        self.inner.prepare()

    def reset(self) -> None:
        self.inner.reset()

    def iteration(self) -> None:
        self.inner.iteration()

    def outputs(self) -> Sequence[torch.Tensor]:
        return self.inner.outputs()

    def scratch(self) -> Sequence[torch.Tensor]:
        return self.inner.scratch()

    def buffers(self) -> Sequence[tuple[torch.Tensor, torch.Tensor]]:
        return self.inner.buffers()

    def moves(self) -> Mapping[str, int | None]:
        return self.inner.moves()

    def close(self) -> None:
        self.inner.close()


class OnlyOnce(As):
    """What a cache of results does; the runner's poison is what shows it."""

    done = False

    def iteration(self) -> None:
        if not self.done:
            super().iteration()
        self.done = True


class AdmitsLess(As):
    def work(self) -> Work:
        work = self.problem.work()
        return dataclasses.replace(work, items=work.items // 2, flops=work.flops // 2)


class Mispredicts(As):
    def moves(self) -> Mapping[str, int | None]:
        predicted = {**self.problem.work().moved_bytes, **self.inner.moves()}
        return {**predicted, "h2d": (predicted["h2d"] or 0) + MEBIBYTE}


WRONG: Final[Mapping[str, Make]] = {
    "pipeline_sequential": PreviousMicrobatch,
    "end_to_end_bandwidth": OneAnswerWrong,
    "integrated_kv_cache": lambda p: Decode(p, lambda p: ReadsOneLess(p.prompt, p.shape.prompt + p.shape.tokens)),
    "memory_standard": Unclamped,
    "training_single": SkipsTheLastStep,
    "multiple_unoptimized": partial(SkipsALayer, rung=multiple_unoptimized.OPTIMIZED),
    "ddp_overlap": SumsButDoesNotAverage,
}
"""A wrong output of each workload's own kind."""


def answer(workload: str, kind: str) -> VariantResult:
    """What the process of `workload`'s optimized variant, broken as `kind` says, answers."""
    program: Program[Any] = importlib.import_module(f"aisp_trace.workloads.{workload}").PROGRAM
    right = program.variants["optimized"]
    broken: Mapping[str, Make] = {
        "wrong output": WRONG[workload],
        "hidden less work": lambda problem: OnlyOnce(right(problem), problem),
        "admitted less work": lambda problem: AdmitsLess(right(problem), problem),
        "mispredicted bytes": lambda problem: Mispredicts(right(problem), problem),
    }
    program = dataclasses.replace(program, variants={**program.variants, "optimized": broken[kind]})

    def run(problem: Any) -> VariantResult:
        return measure(program, problem, "optimized", CPU, iterations=2, warmup=1, traced=False)

    if workload == "ddp_overlap":
        answers: list[VariantResult] = on_both(run)
        return answers[0]
    return run(program.setup(CPU, "tiny", 0))
