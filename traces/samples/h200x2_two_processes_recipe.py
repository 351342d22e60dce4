"""Recipe of h200x2_two_processes.sqlite: two processes, each of which sees one GPU and calls it 0.

    aisp-trace capture --profile minimal -- python h200x2_two_processes_recipe.py

CUDA_VISIBLE_DEVICES gives each process a GPU of its own, so that their device numbers are the same and their GPUs are not.
"""

import os
import subprocess
import sys

if len(sys.argv) == 1:
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank)], env=os.environ | {"CUDA_VISIBLE_DEVICES": str(rank)})
        for rank in range(2)
    ]
    sys.exit(max(rank.wait() for rank in ranks))

import torch  # after CUDA_VISIBLE_DEVICES is set: torch reads it once

from aisp_trace.capture.stages import iteration, stage

rank = int(sys.argv[1])
weight = torch.randn(2048, 2048, device="cuda")
batch = torch.randn(1024 * (rank + 1), 2048).pin_memory()  # rank 1 has twice the work
for _ in range(2):
    (batch.cuda() @ weight).sum().item()
for _ in range(6):
    with iteration():
        with stage("h2d", kind="h2d", nbytes=batch.nbytes):
            x = batch.to("cuda", non_blocking=True)
        with stage("compute", kind="compute"):
            for _ in range(4):
                x = torch.tanh(x @ weight)
        with stage("d2h", kind="d2h"):
            total = x.sum().item()
