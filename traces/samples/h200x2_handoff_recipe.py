"""Recipe of h200x2_handoff.sqlite: one process feeds two GPUs; the second waits for what the first computes.

    aisp-trace capture --profile minimal -- python h200x2_handoff_recipe.py

A layer on GPU 0, a peer copy, a shorter layer on GPU 1, for eight microbatches; everything is launched ahead. GPU 1 idles
because its stream waits for the event behind the copy, which runs on GPU 0.
"""

import torch

from aisp_trace.capture.stages import iteration, stage

torch.manual_seed(0)
first = torch.randn(4096, 4096, device="cuda:0")
second = torch.randn(4096, 4096, device="cuda:1")
batches = [torch.randn(1024, 4096, device="cuda:0") for _ in range(8)]
received = [torch.empty(1024, 4096, device="cuda:1") for _ in batches]
copied = [torch.cuda.Event() for _ in batches]
consumer = torch.cuda.current_stream(1)
for _ in range(4):
    with iteration():
        for batch, here, event in zip(batches, received, copied, strict=True):
            with stage("produce", kind="compute"):
                out = torch.tanh(batch @ first @ first)
            with stage("hand_over", kind="p2p", nbytes=out.nbytes):
                here.copy_(out, non_blocking=True)
                event.record(torch.cuda.current_stream(0))
            with stage("consume", kind="compute"):
                consumer.wait_event(event)
                torch.relu_(here @ second)
        torch.cuda.synchronize(0)
        torch.cuda.synchronize(1)
