"""Rows about the machine and what runs on it: device, name, versions, driver, settings, clock limits, sources. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl

from ....traces.hardware_key import hardware_key, slug
from ....traces.hardware_key import processor as processor_name
from .asked import NAMED, Asked, Finding, unequal

FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    "device": {"device_name": "the device", "device_uuid": "the device's identity", "processor": "the processor"},
    "versions": {"python": "the version of Python", "torch": "the version of torch", "cuda": "torch's CUDA version"},
    "settings": {"host_threads": "the number of host threads", "freed_host_memory": "freed host memory"},
}
"""Facts that a workload's process answers, by row, in words. All processes of a run agree on each."""


def facts(row: str) -> Callable[[Asked], Iterator[Finding]]:
    def differing(asked: Asked) -> Iterator[Finding]:
        for key, what in FACTS[row].items():
            yield from unequal(what, [(p.where, p.facts.get(key)) for p in asked.processes])

    return differing


def driver(asked: Asked) -> Iterator[Finding]:
    said = [("the machine's record", asked.manifest.hardware.driver)]
    yield from unequal("the driver", [*said, *((p.where, p.facts.get("driver")) for p in asked.processes)])


def clocks(asked: Asked) -> Iterator[Finding]:
    """Limits alone: the clocks themselves move with the load."""
    said: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for when, rows in asked.manifest.hardware.clocks.items():
        for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
            for key, value in row.items() if isinstance(row, Mapping) else ():
                if "max" in key or "limit" in key:
                    said.setdefault((str(row.get("index"))[:20], key[:40]), []).append(
                        (f"the reading {when} the run", value)
                    )
    for (gpu, key), values in said.items():
        yield from unequal(f"{key} of GPU {gpu}", values)


def sources(asked: Asked) -> Iterator[Finding]:
    yield from unequal("the sources' commit", [(p.where, p.sources[0]) for p in asked.processes])
    trees = [(p.where, p.sources[1]) for p in asked.processes]
    found = list(unequal("the tree of the sources", trees))
    yield from found
    changed = next((tree for _, tree in trees if tree not in (None, "clean")), None)
    said_clean = asked.manifest.git.get("dirty") is False  # by the environment, where there is no git to ask
    if changed and not found and not said_clean:
        yield Finding(NAMED, f"every process ran from a tree with changes (digest {changed}) that no commit holds")


def hardware(asked: Asked) -> Iterator[Finding]:
    """The machine's key is that of its GPUs, and these are those of the processes and of the traces."""
    text = next(_misnamed(asked), None)
    if text is not None:
        yield Finding(asked.contradicts, text)


def _misnamed(asked: Asked) -> Iterator[str]:
    said = asked.manifest.hardware
    key = hardware_key(said.gpus, said.cpu)
    if said.key != key:
        yield f"the run's machine is called {said.key}, and what it has is called {key}"
    gpus = ", ".join(said.gpus)[:80] or "none"
    if said.device == "cpu" and said.gpus:
        yield f"the run's device is a CPU, and its machine is said to have been asked for its GPUs ({gpus})"
    for process in asked.processes:
        name = process.facts.get("device_name")
        processor = name if said.device == "cpu" else process.facts.get("processor")
        if name is not None and said.device == "cuda" and not _among(str(name), said.gpus):
            yield f"the run's GPUs are {gpus}, and {process.where} ran on {str(name)[:80]}"
        if processor is not None and not set(_words(processor_name(said.cpu))) <= set(_words(str(processor))):
            yield f"the run's processor is {said.cpu[:80]}, and {process.where} ran on {str(processor)[:80]}"
    for where, _, states in asked.gpu_states():
        if states and len(states) != len(said.gpus):
            yield f"the run has {len(said.gpus)} GPUs, and {len(states)} were looked at under {where}"
    for variant, _, analysis, _ in asked.analysed():
        traced = analysis.devices.filter(pl.col("type") == "gpu")["name"].to_list()
        other = next((name for name in traced if name is not None and not _among(name, said.gpus)), None)
        if other is not None:
            yield f"the run's GPUs are {gpus}, and the trace of {variant.name} is of {other[:80]}"
        if len(traced) > len(said.gpus):
            yield f"the run has {len(said.gpus)} GPUs, and {len(traced)} worked in the trace of {variant.name}"


def _words(name: str) -> list[str]:
    return slug(name).split("_")


def _among(name: str, gpus: Sequence[str]) -> bool:
    """A slice of a GPU is called like the whole, with ``MIG`` and its size behind."""
    return any(slug(name) == slug(gpu) or slug(name).startswith(f"{slug(gpu)}_mig") for gpu in gpus)
