"""The tasks, one small file each."""

from __future__ import annotations

from importlib import import_module

from ..task import Task

NAMES = ("rmsnorm",)


def find(name: str) -> Task:
    """The task called `name`; raises `KeyError` for a name that is none."""
    if name not in NAMES:
        raise KeyError(name)
    task: Task = import_module(f".{name}", __name__).TASK
    return task
