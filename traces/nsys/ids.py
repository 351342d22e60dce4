"""What nsys's numbers stand for: processes, threads, hosts, devices, strings and enums.

A serialised global id holds the host in its bits 48 to 63, the process in 24 to 47 and the thread in 0 to 23.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from ..model import MEMORY_KINDS, text_column
from .schema import MIG
from .source import Source

UNNAMED: Final = "(unnamed)"
"""Name of a row whose string does not exist in the export."""

_HOST: Final = 1 << 48
_FIELD: Final = 1 << 24
DEVICES_PER_HOST: Final = 256
"""`device` = the recorder's GPU id, plus this many times the index of its host."""

MOST_DEVICES: Final = 1 << 16
"""A GPU id from here on is not a GPU's."""

MOST_HOSTS: Final = 127
"""How many hosts fit above the 24 bits of a process id in 32 signed bits."""

_DIRECT_LIMIT: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts one trace covers, as the high bits of its global ids, in ascending order; index = position."""

    keys: tuple[int, ...]

    @classmethod
    def of(cls, columns: Iterable[pl.Series]) -> Hosts:
        """The hosts in columns of global ids. Negative ids belong to the recorder itself, not to a host.

        More than `MOST_HOSTS` do not fit into the model's pid; the others count as the first.
        """
        keys: set[int] = set()
        for column in columns:
            low, high = column.min(), column.max()
            if not isinstance(low, int) or not isinstance(high, int):
                continue
            if low // _HOST == high // _HOST:
                keys.add(low // _HOST)
            else:
                keys.update((column // _HOST).unique().drop_nulls().to_list())
        return cls(tuple(sorted(k for k in keys if k >= 0))[:MOST_HOSTS] or (0,))

    def index(self, gid: int) -> int:
        """The index of the host of one global id; 0 for one that is not known."""
        return self.keys.index(gid // _HOST) if gid // _HOST in self.keys else 0

    def pid(self, gid: str) -> pl.Expr:
        """Column `gid` of global ids as the model's pid: process id + 2**24 x host index."""
        pid = (pl.col(gid) // _FIELD) % _FIELD
        if len(self.keys) > 1:
            indices = {k: i * _FIELD for i, k in enumerate(self.keys)}
            pid = pid + (pl.col(gid) // _HOST).replace_strict(indices, default=0, return_dtype=pl.Int64)
        return pid.cast(pl.Int32).alias("pid")

    @staticmethod
    def tid(gid: str) -> pl.Expr:
        """Column `gid` of global ids as native thread ids."""
        return (pl.col(gid) % _FIELD).cast(pl.Int32).alias("tid")


@dataclass(frozen=True, slots=True)
class Instance:
    """A part of a GPU that works as a device of its own (Multi-Instance GPU), and its index in the model."""

    uuid: str
    gpu: int
    device: int
    sms: int | None


@dataclass(frozen=True, slots=True)
class DeviceMap:
    """From a process's own CUDA device number to the machine's GPU id (``TARGET_INFO_CUDA_DEVICE``)."""

    gpu_of: Mapping[tuple[int, int], int]
    many_hosts: bool
    processes: frozenset[int] = frozenset()
    """Those that the map speaks of."""

    instances: tuple[Instance, ...] = ()
    """The MIG instances that processes used."""

    @classmethod
    def of(cls, source: Source, hosts: Hosts) -> DeviceMap:
        """The map of an export; empty, which means the numbers are the same, where it has none.

        A MIG instance has a uuid of its own (``MIG-...``) and its GPU's id. The first of a GPU, by the processes that use it,
        keeps that id as its index, each further one gets an index that nobody has.
        """
        rows = source.table_rows("TARGET_INFO_CUDA_DEVICE", ["pid", "cudaId", "gpuId", "uuid", "numMultiprocessors"])
        usable = [
            (
                process,
                cuda,
                gpu,
                uuid if isinstance(uuid, str) else "",
                sms if isinstance(sms, int) and sms > 0 else None,
            )
            for process, cuda, gpu, uuid, sms in rows
            if isinstance(process, int) and isinstance(cuda, int) and isinstance(gpu, int) and 0 <= gpu < MOST_DEVICES
        ]
        listed = [number for (number,) in source.table_rows("TARGET_INFO_GPU", ["id"]) if isinstance(number, int)]
        free = max([*(gpu for _, _, gpu, _, _ in usable), *(n for n in listed if n < MOST_DEVICES)], default=0) + 1
        instances: dict[str, Instance] = {}
        for _, _, gpu, uuid, sms in sorted(usable, key=lambda one: one[:3]):
            if uuid.startswith(MIG) and uuid not in instances:
                first = all(other.gpu != gpu for other in instances.values())
                instances[uuid] = Instance(uuid, gpu, gpu if first else free, sms)
                free += not first
        known = {
            (process, cuda): instances[uuid].device if uuid in instances else gpu
            for process, cuda, gpu, uuid, _ in usable
        }
        processes = frozenset(process for process, _ in known)
        changed = {key: device for key, device in known.items() if key[1] != device}
        return cls(changed, len(hosts.keys) > 1, processes, tuple(instances.values()))

    def unmapped(self, ops: pl.DataFrame) -> int:
        """How many processes beyond the first of a device used it while the map speaks of not all of them."""
        if ops.get_column("pid").min() == ops.get_column("pid").max():
            return 0
        users = ops.select("pid", "device").unique().drop_nulls().group_by("device").agg("pid")
        together = [pids for _, pids in users.iter_rows() if any(pid % _FIELD not in self.processes for pid in pids)]
        return sum(len(pids) - 1 for pids in together)

    def apply(self, frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
        """`frame` (with the model's `pid`) with CUDA numbers in `columns` replaced by device indices."""
        for column in columns if self.gpu_of else ():
            pairs = frame.select("pid", column).unique().drop_nulls()
            gpus = [self.gpu_of.get((pid % _FIELD, cuda), cuda) for pid, cuda in pairs.iter_rows()]
            lookup = pairs.with_columns(pl.Series("gpu", gpus, dtype=pl.Int32))
            frame = frame.join(lookup, on=["pid", column], how="left", maintain_order="left")
            frame = frame.with_columns(pl.col("gpu").alias(column)).drop("gpu")
        if self.many_hosts:
            host = (pl.col("pid") // _FIELD) * DEVICES_PER_HOST
            frame = frame.with_columns((pl.col(c) + host).cast(pl.Int32) for c in columns)
        return frame


def name_codes(source: Source, ids: pl.Series, clean: Callable[[str], str] | None = None) -> tuple[Any, list[str], int]:
    """(codes, values, missing) for a column of StringIds: ``values[code]`` is each row's name.

    `missing` counts the rows whose id is null or unknown; they are called `UNNAMED`. `clean` is applied to each
    distinct name once, and names equal after it share a code.
    """
    values: dict[str, int] = {}
    present = ids.drop_nulls()
    low, high = present.min(), present.max()
    direct = isinstance(low, int) and isinstance(high, int) and low >= 0 and high < _DIRECT_LIMIT
    if direct:
        assert isinstance(high, int)
        used = np.zeros(high + 1, dtype=bool)
        used[present.to_numpy()] = True
        distinct = np.flatnonzero(used).tolist()
    else:
        distinct = present.unique().to_list()
    strings = source.strings(distinct)
    code_of: dict[int, int] = {}
    for number in distinct:
        name = strings.get(number, UNNAMED)
        code_of[number] = values.setdefault(clean(name) if clean else name, len(values))
    unnamed = values.setdefault(UNNAMED, len(values)) if present.len() < ids.len() else None
    if direct:
        table = np.zeros(len(used) + 1, dtype=np.int32)
        table[distinct] = [code_of[n] for n in distinct]
        if unnamed is not None:
            table[-1] = unnamed
        codes = table[ids.fill_null(len(used)).to_numpy()]
    else:
        codes = ids.replace_strict(code_of, default=unnamed, return_dtype=pl.Int32).to_numpy()
    absent = values.get(UNNAMED)
    missing = 0 if absent is None else int((codes == absent).sum())
    return codes, list(values), missing


def name_column(
    source: Source, name: str, ids: pl.Series, clean: Callable[[str], str] | None = None
) -> tuple[pl.Series, int]:
    """A `TEXT` column called `name` from a column of StringIds, and how many rows had no string."""
    codes, values, missing = name_codes(source, ids, clean)
    return text_column(name, codes, values), missing


def enum_numbers(source: Source, table: str, default: Mapping[str, int]) -> dict[str, int]:
    """Enum names -> numbers as this export has them; `default` for every name its table lacks.

    Two tables are spelt differently by nsys 2022.4; no number of theirs is used.
    """
    numbers = dict(default)
    for number, name in source.table_rows(table, ["id", "name"]):
        if isinstance(number, int) and isinstance(name, str) and name in default:
            numbers[name] = number
    return numbers


_MEMORY_PREFIX: Final = "CUDA_MEMOPR_MEMORY_KIND_"


def memory_codes(source: Source, kinds: pl.Series) -> pl.Series:
    """A column of ENUM_CUDA_MEM_KIND numbers as `MEMORY_KINDS` codes; null stays null, an unknown number is unknown."""
    default = {_MEMORY_PREFIX + k.upper(): i for i, k in enumerate(MEMORY_KINDS)}
    numbers = enum_numbers(source, "ENUM_CUDA_MEM_KIND", default)
    codes = {n: MEMORY_KINDS.index(name.removeprefix(_MEMORY_PREFIX).lower()) for name, n in numbers.items()}
    filled = kinds.cast(pl.Int64).replace_strict(codes, default=MEMORY_KINDS.index("unknown"), return_dtype=pl.Int32)
    return pl.select(pl.when(kinds.is_null()).then(None).otherwise(filled)).to_series().alias(kinds.name)


def coded(name: str, codes: pl.Series, values: tuple[str, ...]) -> pl.Series:
    """Integer `codes` (null allowed) as an Enum column over all of `values`."""
    return text_column(name, codes.fill_null(-1).to_numpy(), values)
