"""Whose an event of a Kineto trace is: which process launched an operation, and which device it ran on.

torch.profiler records one process. Programs that put the files of several ranks into one change the events' `pid` so that
it tells the ranks apart, and nothing else: correlation ids and device numbers of the ranks then collide.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def main_process(hosts: Sequence[pl.Series]) -> int:
    """The id of the process that most of the host's events belong to, by their `pid` columns; 0 without any."""
    pids = pl.concat(hosts).fill_null(0).rename("pid").to_frame()
    counted = pids.group_by("pid", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    return int(counted["pid"][0]) if counted.height else 0


def launchers(ops: pl.DataFrame, calls: pl.DataFrame, pid: int) -> pl.Series:
    """The process that launched each of `ops`, as column ``pid``; `pid` for all of them if only one process called.

    `ops` has the columns device, correlation and start_ns, `calls` pid, correlation and start_ns.

    An operation does not say who launched it, and every process counts its calls from one. A process may have launched an
    operation if it made a call of that id before the operation began. If only one process may have launched all operations
    of a device (of those for which there is any call), it did; and as a call launches on one device, that process did not
    launch those of another device that have the same ids. Else an operation is that of the only process that may have
    launched it, and nobody's (null) if there are several or none.
    """
    if calls["pid"].n_unique() < 2:
        return pl.repeat(pid, ops.height, dtype=pl.Int32, eager=True).alias("pid")
    first: dict[int, dict[int, int]] = {}
    for number, caller, start in calls.select("correlation", "pid", "start_ns").drop_nulls().iter_rows():
        callers = first.setdefault(number, {})
        callers[caller] = min(start, callers.get(caller, start))
    able: list[set[int]] = []
    owners: dict[int, set[int]] = {}
    ids: dict[int, set[int]] = {}
    devices = ops["device"].to_list()
    for device, number, start in ops.select("device", "correlation", "start_ns").iter_rows():
        known = first.get(number, {})
        able.append({caller for caller, began in known.items() if began <= start})
        if known:
            owners[device] = owners.get(device, able[-1]) & able[-1]
            ids.setdefault(device, set()).add(number)
    _exclude(owners, ids)
    chosen = [owners[d] if len(owners.get(d, ())) == 1 else mine for mine, d in zip(able, devices, strict=True)]
    return pl.Series("pid", [next(iter(c)) if len(c) == 1 else None for c in chosen], dtype=pl.Int32)


def _exclude(owners: dict[int, set[int]], ids: dict[int, set[int]]) -> None:
    """Take the one owner of a device out of the possible owners of others with the same ids, until nothing changes."""
    done: set[int] = set()
    while found := [d for d, able in owners.items() if len(able) == 1 and d not in done]:
        done.add(found[0])
        for other in owners.keys() - done:
            if not ids[found[0]].isdisjoint(ids[other]):
                owners[other] = owners[other] - owners[found[0]]


class DeviceNumbers:
    """Numbers for the devices of all ranks.

    Kineto files an operation under a `pid` that is its device. Where one device number occurs under several, they are the
    devices of several ranks: the first keeps the number, the others get numbers that nobody has.
    """

    def __init__(self, labels: Sequence[str], ops: pl.DataFrame) -> None:
        """Of `ops` with the columns device and label, the place of what they are filed under in `labels`."""
        self._places = {text: place for place, text in enumerate(labels)}
        self._labels = ops["label"]
        self._ops = ops
        pairs = ops.select("label", "device").unique(maintain_order=True).rows()
        own = {device for _, device in pairs}
        self._numbers: dict[tuple[int, int], int] = {}
        used: set[int] = set()
        for place, device in pairs:
            number = device if device not in used else max(own | used) + 1
            used.add(number)
            self._numbers[place, device] = number

    def of(self, label: str, device: int) -> int:
        """The number of what is called `device` under `label`; of one on which nothing ran, that number itself."""
        return self._numbers.get((self._places.get(label, -1), device), device)

    def column(self, name: str) -> pl.Series:
        """A column of devices of the operations with the numbers of these."""
        column = self._ops[name]
        changed = {pair: number for pair, number in self._numbers.items() if pair[1] != number}
        for (place, device), number in changed.items():
            mine = (self._labels == place) & (self._ops[name] == device)
            column = column.set(mine.fill_null(False), number)
        return column
