"""What is kept of one rank of a job: small, whatever the size of its trace, and all that a merge needs.

Times are on the clock of the rank's own trace, integer nanoseconds. Iterations are numbered as in the trace, warm-up included, so
that numbers stay what `analyze` shows; only the window's are here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import polars as pl

from ...traces.model import Trace

TABLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "iterations": {
        "iteration": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    },
    # The ledger of the rank's device, one row a cell; iteration -1: between iterations. Sums to the window.
    "ledger": {
        "iteration": pl.Int32,
        "stage": pl.String,
        "category": pl.String,
        "cause": pl.String,  # null unless idle
        "ns": pl.Int64,
    },
    # Communication operations of the window in order of start, by their rank's clock.
    "collectives": {
        "iteration": pl.Int32,  # -1: launched outside all
        "stage": pl.String,
        "name": pl.String,
        "what": pl.String,  # all_reduce, all_gather ...; a kernel's name where nothing says
        "stream": pl.Int64,
        "group": pl.String,  # "ranks 0, 1" or "group NAME of SIZE"; "" where nothing says
        "group_size": pl.Int32,  # null: unknown
        "seq": pl.Int64,  # its number within the group, by torch; null: not recorded
        "nbytes": pl.Int64,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "split": pl.Boolean,  # whether it cannot end before all ranks have begun it
    },
    # When communication was not under compute: disjoint pieces, each of one collective (its row above). They sum to the ledger's
    # cells of category comm.
    "exposed": {
        "collective": pl.Int32,
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
    },
}

ON_HOST: Final = "ranks on CPUs"
"""The group of collectives that threads run: the operating system may let one end late, so that ends tell no groups apart."""

_FOLDERS: Final = 4
"""A trace's name and the folders above it that may name its rank: a run folder of `capture --ranks` is two above."""

_NUMBERED: Final = re.compile(r"(?<![a-z])rank[-_. ]?(\d{1,7})(?!\d)", re.IGNORECASE)
"""How files are called after ranks: ``rank3``, ``rank_003``, ``trace.rank-12.json``."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a partial is. `rank` null: nothing says. `source` is what said so: ``torch`` (distributedInfo), ``run`` (the manifest
    of its run folder), ``file name``, or ``device order`` (several ranks in one trace, numbered by their devices)."""

    rank: int | None
    world_size: int | None
    source: str
    host: str | None
    device: int
    device_name: str | None
    uuid: str | None

    @property
    def gpu(self) -> str:
        """The device as a reader knows it."""
        return f"{self.device_name or 'device'} {self.device}"


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank: who it is, which trace it is from, what was found steady, and the tables of `TABLES`.

    `clock` names the clock of its times: ranks of one trace share it. `part` of `parts`: which of the trace's ranks this is.
    `notes` say what is in doubt.
    """

    identity: Identity
    trace: str
    recorder: str
    clock: str
    part: int
    parts: int
    window: tuple[int, int]
    found_by: str | None  # how its iterations were found; null: there are none, and the window counts as one
    warm_up: int
    notes: tuple[str, ...]
    tables: Mapping[str, pl.DataFrame]

    def table(self, name: str) -> pl.DataFrame:
        """One of `TABLES`."""
        return self.tables[name]


def identities(trace: Trace, devices: list[int], file: str, of_run: tuple[int, int] | None = None) -> list[Identity]:
    """Who ran on each of `devices`, by the strongest evidence in `trace`; then by what its run says (`of_run`: rank and number
    of ranks), and last by its name `file`."""
    rows = {row["device"]: row for row in trace.devices.iter_rows(named=True)}
    said = {key: trace.meta.capture.get(key) for key in ("rank", "world_size")}
    world = int(said["world_size"]) if said["world_size"] is not None else None if of_run is None else of_run[1]
    host = host_in_name(file) if trace.meta.recorder == "torch" else None
    found = []
    for number, device in enumerate(devices):
        rank: int | None = number
        source = "device order"
        if len(devices) == 1:
            if said["rank"] is not None:
                rank, source = int(said["rank"]), "torch"
            elif of_run is not None:
                rank, source = of_run[0], "run"
            elif (named := rank_in_name(file)) is not None:
                rank, source = named, "file name"
            else:
                rank, source = None, "nothing"
        row = rows.get(device, {})
        found.append(Identity(rank, world, source, host, device, row.get("name"), row.get("uuid")))
    return found


def rank_in_name(file: str) -> int | None:
    """The rank that a file is called after, or the folder it lies in; null where it is called after none, or several."""
    for part in reversed(PurePath(file).parts[-_FOLDERS:]):
        found = {int(n) for n in _NUMBERED.findall(part)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def host_in_name(file: str) -> str | None:
    """The host in a name that ``tensorboard_trace_handler`` gave: ``HOST_PID.TIME.pt.trace.json``."""
    found = re.fullmatch(r"(.+)_\d+\.\d+\.pt\.trace\.json(?:\.gz)?", PurePath(file).name)
    return found[1] if found else None
