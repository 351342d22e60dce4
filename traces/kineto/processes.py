"""Whose an event of a Kineto trace is: which process launched an operation, and which device it ran on.

torch.profiler records one process. Programs that put the files of several ranks into one change the events' `pid` so that
it tells the ranks apart, and nothing else: correlation ids and device numbers of the ranks then collide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .columns import arguments, integer, nanoseconds, process_id

Event = dict[str, Any]


def main_process(events: Sequence[Event]) -> int:
    """The id of the process that most of the host's `events` belong to; 0 without any."""
    pids = Counter(process_id(e, 0) for e in events)
    return pids.most_common(1)[0][0] if pids else 0


def launchers(ops: Sequence[Event], devices: Sequence[int], calls: Sequence[Event], pid: int) -> list[int | None]:
    """The process that launched each of `ops`, which ran on `devices`; `pid` for all of them if only one process called.

    An operation does not say who launched it, and every process counts its calls from one. A process may have launched an
    operation if it made a call of that id before the operation began. If only one process may have launched all operations
    of a device (of those for which there is any call), it did; and as a call launches on one device, that process did not
    launch those of another device that have the same ids. Else an operation is that of the only process that may have
    launched it, and nobody's (null) if there are several or none.
    """
    if len({process_id(e, pid) for e in calls}) < 2:
        return [pid] * len(ops)
    first: dict[int, dict[int, int]] = {}
    for event, start in zip(calls, nanoseconds([e.get("ts") for e in calls]), strict=True):
        number, caller = integer(arguments(event).get("correlation")), process_id(event, pid)
        if number is not None and start is not None:
            callers = first.setdefault(number, {})
            callers[caller] = min(start, callers.get(caller, start))
    able: list[set[int]] = []
    owners: dict[int, set[int]] = {}
    ids: dict[int, set[int]] = {}
    for event, device, start in zip(ops, devices, nanoseconds([e.get("ts") for e in ops]), strict=True):
        number = integer(arguments(event).get("correlation")) or 0
        known = {} if start is None else first.get(number, {})
        able.append({caller for caller, began in known.items() if start is not None and began <= start})
        if known:
            owners[device] = owners.get(device, able[-1]) & able[-1]
            ids.setdefault(device, set()).add(number)
    _exclude(owners, ids)
    chosen = [owners[d] if len(owners.get(d, ())) == 1 else mine for mine, d in zip(able, devices, strict=True)]
    return [next(iter(c)) if len(c) == 1 else None for c in chosen]


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

    def __init__(self, ops: Sequence[Event]) -> None:
        pairs = dict.fromkeys((_label(e), d) for e in ops if (d := stated_device(e)) is not None)
        own = {device for _, device in pairs}
        self._numbers: dict[tuple[str, int], int] = {}
        used: set[int] = set()
        for label, device in pairs:
            number = device if device not in used else max(own | used) + 1
            used.add(number)
            self._numbers[label, device] = number

    def of(self, event: Event, device: Any) -> int | None:
        """The number of what the rank of `event` calls `device`; of one on which nothing ran, that number itself."""
        number = integer(device, 32)
        return None if number is None else self._numbers.get((_label(event), number), number)


def stated_device(event: Event) -> int | None:
    """The device of an operation: its own word, else the process that Kineto files it under; null if neither is one."""
    device = integer(arguments(event).get("device", event.get("pid")), 32)
    return device if device is not None and device >= 0 else None


def _label(event: Event) -> str:
    return str(event.get("pid"))
