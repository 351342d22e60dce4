"""What kind of work a CUDA call is, by its name.

One table, used for idle causes, allocator time and launch checks. Names are runtime (cuda...) or driver (cu...) names
without their ABI suffix. Order matters: the first pattern that matches wins.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...traces.model import distinct_values

CLASSES: Final = ("allocator", "sync", "copy_api", "module_load", "graph_build", "launch", "other")
ALLOCATOR, SYNC, COPY, MODULE, GRAPH, LAUNCH, OTHER = range(7)

PATTERNS: Final = (
    # Copies first: cuMemcpy and cuMemset also begin with cuMem.
    (COPY, r"cuda(Memcpy|Memset|GraphMemcpy)|cuMemcpy|cuMemset"),
    (
        ALLOCATOR,
        r"cuda(Malloc|Free|HostAlloc|HostRegister|HostUnregister|MemPool)"
        r"|cuMem(Alloc|Free|HostAlloc|HostRegister|HostUnregister|Create$|Map$|Unmap$|Release$|AddressReserve|AddressFree"
        r"|SetAccess|Pool)",
    ),
    (SYNC, r"(cuda|cu)(Device|Ctx|Stream|Event)Synchronize|cudaThreadSynchronize"),
    (LAUNCH, r"(cuda|cu)(Launch|GraphLaunch)"),
    # Lazy loading happens in the calls that resolve a function; cuLibraryGetKernel only looks a handle up.
    (MODULE, r"cu(Module|Library)(Load|Unload)|cudaLibrary(Load|Unload)|cu(Module|Kernel)GetFunction|cuLink"),
    (GRAPH, r"(cuda|cu)Graph|(cuda|cu)Stream(Begin|End)Capture"),
)

WAITING_OS_CALLS: Final = r"wait|sem_|poll|select|futex|sleep|(?<!th)read|join|lock"
"""Operating-system calls in which a thread waits for something else (names as nsys's osrt trace gives them); the look-behind
keeps ``read`` from matching every ``pthread_`` function."""

LAZY_LOAD_NS: Final = 1_000_000
"""A kernel launch that takes longer than this loads its module first: ordinary ones take 2 to 20 us on H100."""


def classify(name: str) -> int:
    """The class of one call name, as an index into `CLASSES`."""
    for code, pattern in PATTERNS:
        if re.match(pattern, name):
            return code
    return OTHER


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
