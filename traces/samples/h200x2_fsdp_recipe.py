"""Recipe of h200x2_fsdp/: FSDP training of two ranks, whose second rank's data loader is slow in four steps.

    aisp-trace capture --ranks 2 --output job -- torchrun --standalone --nproc-per-node 2 h200x2_fsdp_recipe.py planted
    aisp-trace ranks job

Rank 1's dataset sleeps 100 ms for one sample of the batches of `SLOW`. Each rank writes what its loader took, step by step, to
``planted/rank<n>.json``, so that what is found can be held against what happened
(planted.json has both). Without GPUs the ranks train on the CPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from aisp_trace.capture.stages import iteration, measured, stage

STEPS, SLOW, SLOW_S = 20, (6, 9, 10, 17), 0.1
WARM_UP = 4
BATCH, WIDTH, BLOCKS = 512, 2048, 8


class Samples:
    """Random samples; one of each slow step comes late on rank 1."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.samples = torch.randn(4 * BATCH, WIDTH, generator=torch.Generator().manual_seed(rank))

    def __len__(self) -> int:
        return (WARM_UP + STEPS) * BATCH

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.rank == 1 and index % BATCH == 0 and index // BATCH - WARM_UP in SLOW:
            time.sleep(SLOW_S)
        return self.samples[index % len(self.samples)]


class Block(nn.Module):
    """A feed-forward block with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.wide(x)))


def main(folder: Path) -> None:
    """Train, and write what the loader took in ns, by step."""
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if torch.cuda.device_count() > local else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    mesh = dist.init_device_mesh(device.type, (dist.get_world_size(),))
    model = nn.Sequential(*[Block() for _ in range(BLOCKS)]).to(device)
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = iter(DataLoader(Samples(rank), batch_size=BATCH))
    took: list[int] = []

    def step() -> None:
        with stage("data", kind="host"):
            began = time.perf_counter_ns()
            batch = next(batches)
            took.append(time.perf_counter_ns() - began)
        with stage("h2d", kind="h2d", nbytes=batch.nbytes):
            batch = batch.to(device)
        with stage("forward", kind="compute"):
            loss = model(batch).square().mean()
        with stage("backward", kind="compute"):
            loss.backward()
        with stage("optimizer", kind="compute"):
            optimizer.step()
            optimizer.zero_grad()
        with stage("log", kind="host"):
            loss.item()

    for _ in range(WARM_UP):
        step()
    with measured():
        for _ in range(STEPS):
            with iteration():
                step()
    folder.mkdir(exist_ok=True)
    (folder / f"rank{rank}.json").write_text(json.dumps(took[WARM_UP:]), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
