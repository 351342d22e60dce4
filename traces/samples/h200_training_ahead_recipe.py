"""A training whose host runs far ahead of the GPU: it reads no loss, and waits after the first step and at the end alone.

    aisp-trace capture --rounds 4 --baseline 'h200_training_ahead_recipe.py fp32' --optimized 'h200_training_ahead_recipe.py bf16'

It prints what a step took, from after the first to the end, by its own clock.
"""

from __future__ import annotations

import sys
import time

import torch
from torch import nn

STEPS = 60

torch.manual_seed(0)
model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(4096, 4096), nn.GELU())]).cuda()
optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
x = torch.randn(4096, 4096, device="cuda")
for step in range(STEPS):
    with torch.autocast("cuda", torch.bfloat16, enabled=sys.argv[1] == "bf16"):
        loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step == 0:
        torch.cuda.synchronize()
        began = time.perf_counter()
torch.cuda.synchronize()
print(f"{(time.perf_counter() - began) / (STEPS - 1) * 1e3:.3f} ms a step")
