"""A workload of your own, in one file: a small model scores requests one by one, or all of them together.

    aisp-trace capture examples/my_workload.py              # rounds, comparison of outputs, one recording of each variant
    aisp-trace check --expectations examples/expectations   # or ./expectations of your project, without the option

Copy it, and replace what is inside the classes. The file must be started as a program, so keep the last two lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from aisp_trace import stage
from aisp_trace.traces.run import Work
from aisp_trace.workloads.catalog import Entry
from aisp_trace.workloads.interface import Problem, Program, Tolerance, Variant
from aisp_trace.workloads.runner import main

REQUESTS = {"tiny": 16, "default": 128, "large": 512}
WIDTH = 512

ENTRY = Entry(
    name="my_workload",
    title="a linear model scores requests",
    variants=(
        ("baseline", "one request at a time"),
        ("optimized", "all requests in one batch"),
    ),
    needs="any machine",
    proves="one large matrix product reads the weights once, many small ones read them each time",
)


class Requests(Problem):
    """The requests and the weights; all variants get the same, with other values before every timed iteration."""

    tolerance = Tolerance(bound=1e-4, reason="fp32 sums of 512 terms, in two different orders")

    def __init__(self, device: torch.device, size: str, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.device = device
        self.requests = torch.randn(REQUESTS[size], WIDTH, generator=random).to(device)
        self.weights = torch.randn(WIDTH, WIDTH, generator=random).to(device)

    def reference(self) -> Iterator[torch.Tensor]:
        """In float64, from the same inputs."""
        yield self.requests.double() @ self.weights.double()

    def work(self) -> Work:
        """What every variant must do in one iteration."""
        count = len(self.requests)
        nbytes = self.requests.nbytes
        return Work(
            items=count, unit="requests", flops=2 * count * WIDTH * WIDTH, input_bytes=nbytes, output_bytes=nbytes
        )


class Scores(Variant):
    """What the variants share."""

    def __init__(self, problem: Requests) -> None:
        self.problem = problem
        self.scores = torch.empty_like(problem.requests)

    def outputs(self) -> Sequence[torch.Tensor]:
        """Compared with the reference, after iterations that no variant knows, and once more after they were overwritten."""
        return [self.scores]


class OneByOne(Scores):
    """The pattern that many services start with."""

    def iteration(self) -> None:
        """Timed. The measurement synchronises the device at the end; do not do it here."""
        for i in range(len(self.problem.requests)):
            with stage("score", kind="compute"):
                torch.mm(self.problem.requests[i : i + 1], self.problem.weights, out=self.scores[i : i + 1])


class Batched(Scores):
    """One change: all requests in one product."""

    def iteration(self) -> None:
        """Timed, as above."""
        with stage("score", kind="compute"):
            torch.mm(self.problem.requests, self.problem.weights, out=self.scores)


PROGRAM = Program(entry=ENTRY, setup=Requests, variants={"baseline": OneByOne, "optimized": Batched})

if __name__ == "__main__":
    main(PROGRAM)
