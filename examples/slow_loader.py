"""A training of two ranks on CPUs, whose second rank's data loader is slow in four steps.

    aisp-trace capture --ranks 2 --output job -- torchrun --standalone --nproc-per-node 2 examples/slow_loader.py said
    aisp-trace ranks job

Rank 1's dataset sleeps 400 ms for the batches of `SLOW`. Each rank writes what its loader took, step by step, to
``said/rank<n>.json``, so that what is found can be held against what happened.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.nn  # before any group: loaded later it keeps the group alive, and gloo's threads abort at exit
from torch import nn
from torch.utils.data import DataLoader

from aisp_trace import iteration, measured, stage

STEPS, SLOW, SLOW_S = 16, (4, 7, 8, 13), 0.4
BATCH, WIDTH = 64, 256


class Samples:
    """Random samples; those of the slow steps come late on rank 1."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.samples = torch.randn(STEPS * BATCH, WIDTH, generator=torch.Generator().manual_seed(rank))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.rank == 1 and index % BATCH == 0 and index // BATCH in SLOW:
            time.sleep(SLOW_S)
        return self.samples[index]


def main(folder: Path) -> None:
    """Train, and write what the loader took in ns, by step."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batches = iter(DataLoader(Samples(rank), batch_size=BATCH))
    took = []
    with measured():
        for _ in range(STEPS):
            with iteration():
                with stage("data", kind="host"):
                    began = time.perf_counter_ns()
                    batch = next(batches)
                    took.append(time.perf_counter_ns() - began)
                with stage("forward", kind="compute"):
                    loss = model(batch).square().mean()
                with stage("backward", kind="compute"):
                    optimizer.zero_grad()
                    loss.backward()
                flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
                with stage("all_reduce", kind="comm", nbytes=flat.nbytes):
                    dist.all_reduce(flat)
                with stage("optimizer", kind="compute"):
                    for parameter, mean in zip(
                        model.parameters(),
                        (flat / dist.get_world_size()).split([p.numel() for p in model.parameters()]),
                        strict=True,
                    ):
                        parameter.grad = mean.view_as(parameter)
                    optimizer.step()
    folder.mkdir(exist_ok=True)
    (folder / f"rank{rank}.json").write_text(json.dumps(took), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
