"""What kind of work a host call is, by its name: the one table for idle causes, allocator time and launch checks.

CUDA names are runtime (cuda...) or driver (cu...) names without their ABI suffix; HIP has one set of names (hip...) for both,
most of them CUDA's. The first row of `TABLE` whose pattern matches the beginning of a name gives its class. Each row says where
that is written down; what HIP adds is in its API reference and its dispatch table (hip_api_trace.hpp).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import distinct_values

CLASSES: Final = (
    "allocator", "sync", "copy_api", "module_load", "graph_build", "launch", "poll", "kernel_query", "other",
)  # fmt: skip
ALLOCATOR, SYNC, COPY, MODULE, GRAPH, LAUNCH, POLL, KERNEL, OTHER = range(9)


@dataclass(frozen=True, slots=True)
class Row:
    """Calls of one class, and the evidence: what says that they do this work."""

    kind: int
    pattern: str
    evidence: str


TABLE: Final = (
    Row(
        COPY,
        r"(cuda|cu|hip|hipDrv)Mem(cpy|set)",
        "CUDA API reference, Memory Management; stands first, since cuMemcpy and cuMemset also begin with cuMem",
    ),
    Row(
        ALLOCATOR,
        r"cuda(Malloc|Free|HostAlloc|HostRegister|HostUnregister|MemPool)"
        r"|cuMem(Alloc|Free|HostAlloc|HostRegister|HostUnregister|Create$|Map$|Unmap$|Release$|AddressReserve|AddressFree"
        r"|SetAccess|Pool)"
        r"|hip(Malloc|Free|ExtMalloc|Host(Alloc|Malloc|Free|Register|Unregister)"
        r"|Mem(Alloc|Create$|Map$|Unmap$|Release$|AddressReserve|AddressFree|SetAccess|Pool))",
        "CUDA API reference, Memory Management, Virtual Memory Management, Stream Ordered Memory Allocator",
    ),
    Row(
        SYNC,
        r"(cuda|cu|hip)(Device|Ctx|Stream|Event)Synchronize|cudaThreadSynchronize",
        "CUDA API reference: blocks until the device, context, stream or event is done",
    ),
    Row(
        POLL,
        r"(cuda|cu|hip)(Event|Stream)Query",
        "CUDA API reference: returns cudaErrorNotReady at once; who asks again and again waits",
    ),
    Row(
        LAUNCH,
        r"(cuda|cu|hip)(Launch(?!HostFunc)|GraphLaunch)|hip(Ext|Module|ExtModule|HccModule)Launch",
        "CUDA API reference, Execution Control, Graph Management; a host function launches nothing on the device",
    ),
    Row(
        MODULE,
        r"(cu|hip)(Module|Library)(Load|Unload)|cudaLibrary(Load|Unload)|(cu|hip)(Module|Kernel)GetFunction|(cu|hip)Link",
        "CUDA API reference, Module and Library Management; cuLibraryGetKernel only looks a handle up",
    ),
    Row(
        KERNEL,
        r"(cuda|hip)(Func|Occupancy|GetFuncBySymbol)|hipModuleOccupancy|(cu|hip)(Func|Occupancy|Kernel(Get|Set)Attribute)",
        "CUDA programming guide, Lazy Loading: the first call that needs a kernel loads it",
    ),
    Row(
        GRAPH,
        r"(cuda|cu|hip|hipDrv)Graph(?!ics)|(cuda|cu|hip)Stream(Begin|End)Capture",
        "CUDA API reference, Graph Management; graphics interoperability is something else",
    ),
)

LOADS: Final = np.isin(np.arange(len(CLASSES)), (LAUNCH, KERNEL))
"""Classes whose calls name a kernel, and load it first where nobody has yet."""

LAZY_LOAD_NS: Final = 1_000_000
"""A call that names a kernel and takes longer than this loads it: ordinary launches take 2 to 20 us on H100."""

WAITING_OS_CALLS: Final = r"wait|sem_|poll|select|futex|sleep|(?<!th)read|join|lock"
"""Operating-system calls in which a thread waits for something else (names as nsys's osrt trace gives them); the look-behind
keeps ``read`` from matching every ``pthread_`` function."""

WAITS_FOR_NOBODY: Final = r"sleep|(?<!th)read"
"""Those of them that no other thread ends: a clock or a file does."""


PREFETCHES: Final = re.compile(r"(cuda|cu|hip)MemPrefetch")
"""Calls that ask for migrations of unified memory (CUDA API reference, Unified Addressing)."""


def classify(name: str) -> int:
    """The class of one call name, as an index into `CLASSES`."""
    return next((row.kind for row in TABLE if re.match(row.pattern, name)), OTHER)


def classes_of(names: pl.Series) -> npt.NDArray[np.int8]:
    """The class of each call of a dictionary-encoded column; each distinct name is looked at once."""
    table = np.array([classify(n) for n in distinct_values(names)] or [OTHER], np.int8)
    codes = names.to_physical().fill_null(0).to_numpy()
    return np.asarray(table[codes])


def synchronous_copies(names: pl.Series) -> npt.NDArray[np.bool_]:
    """Which calls are copies that return only when done (no ``Async`` in the name)."""
    listed = [classify(n) == COPY and "Async" not in n for n in distinct_values(names)]
    table = np.array(listed or [False], bool)
    return np.asarray(table[names.to_physical().fill_null(0).to_numpy()])
