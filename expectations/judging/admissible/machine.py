"""Rows about the machine and what runs on it: device, versions, driver, settings, clock limits, sources. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

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
    if changed and not found:
        yield Finding(NAMED, f"every process ran from a tree with changes (digest {changed}) that no commit holds")
