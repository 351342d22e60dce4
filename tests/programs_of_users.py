"""Programs as users have them: none knows of aisp-trace, unless it says so."""

from __future__ import annotations

from typing import Final

TRAINING: Final = """
import sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self):
        return 80

    def __getitem__(self, i):
        time.sleep(0.003)
        return torch.full((8,), float(i))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batches = DataLoader(Numbers(), batch_size=8, num_workers=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for step, batch in enumerate(batches):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}")
    with torch.no_grad():
        model(torch.ones(8))
"""
"""A loop of ten steps that waits for its data; its words: the number of workers."""

COMPILED: Final = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
compiled = torch.compile(model, backend="eager", fullgraph=True)
loss_of = torch.compile(lambda x: torch.nn.functional.mse_loss(model(x), x), backend="eager", fullgraph=True)
x = torch.ones(4, 8)
for _ in range(3):
    loss = compiled(x).sum() + loss_of(x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.jit.trace(model, x)(x)
torch.fx.symbolic_trace(model)(x)
print("all of it ran")
"""
"""What would break if a phase got into what torch compiles or traces."""
