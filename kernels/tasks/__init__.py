"""The tasks: one file each, with an instance called ``TASK``."""

from __future__ import annotations

import importlib
from typing import Final

from ..task import Task

NAMES: Final = (
    *("saxpy", "rmsnorm", "softmax", "bias_gelu", "layernorm_residual"),
    *("rotary", "paged_gather", "int8_dequantise", "column_sum"),
)


def find(name: str) -> Task:
    """The task called `name`; `KeyError` if there is none."""
    if name not in NAMES:
        raise KeyError(name)
    task: Task = importlib.import_module(f".{name}", __package__).TASK
    return task
