"""Which domain's ranges are the stages of a trace.

aisp           our `stage()`; where there is none of it,
""             the default domain: ranges of the program's own; where torch alone made them,
aisp.phases    what `capture` put around torch's calls in a program that opens no ranges (``capture/phases.py``);
torch.op       the operators of a torch.profiler trace in which nobody opened any range
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from .phases import PHASES, STAGES

OPERATORS: Final = "torch.op"
"""The domain of PyTorch's operators (``kineto/operators.py``)."""

BY_TORCH: Final = re.compile(
    r"(Optimizer\.(step|zero_grad)|enumerate\(DataLoader\))#|DataParallel\.|DistributedDataParallel\.|FullyShardedDataParallel\.|"
    r"Torch-Compiled Region|CompiledFunction|Pregraph bytecode|TorchDynamo|\w+_data: .*compile_id=|PyTorch Profiler|nccl:|gloo:|"
    r"mpi:|record_param_comms"
)
"""How names begin of annotations that torch makes by itself, in any program: it opens them in the default domain."""


def domain_of_stages(ranges: pl.DataFrame) -> str:
    """The domain of the stages among the rows of table `ranges`."""
    domains = set(ranges["domain"].unique().cast(pl.String).to_list())
    if STAGES in domains:
        return STAGES
    if PHASES not in domains:
        return OPERATORS if OPERATORS in domains and not domains & {"", None} else ""
    names = ranges.filter(pl.col("domain").cast(pl.String) == "")["name"].unique().cast(pl.String).drop_nulls()
    return PHASES if all(BY_TORCH.match(name) for name in names) else ""
