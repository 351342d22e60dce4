"""Recipe of h200x2_ddp.sqlite: two ranks train a small MLP, gradients all-reduced in buckets while backward runs.

    aisp-trace capture --profile minimal -- torchrun --standalone --nproc-per-node 2 h200x2_ddp_recipe.py

Rank 1 sleeps 2 ms before its third step's backward, so that rank 0's collectives wait for it.
"""

import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from aisp_trace.capture.stages import iteration, stage

rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
torch.manual_seed(0)
layers = [layer for _ in range(4) for layer in (torch.nn.Linear(2048, 2048), torch.nn.GELU())]
model = DistributedDataParallel(torch.nn.Sequential(*layers).cuda(), bucket_cap_mb=16)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
data = torch.randn(2048, 2048).pin_memory()
for step in range(6):
    with iteration():
        with stage("h2d", kind="h2d", nbytes=data.nbytes):
            x = data.to("cuda", non_blocking=True)
        with stage("forward", kind="compute"):
            loss = model(x).square().mean()
        if rank == 1 and step == 2:
            time.sleep(0.002)
        with stage("backward", kind="compute"):
            loss.backward()
        with stage("optimizer", kind="compute"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
dist.destroy_process_group()
