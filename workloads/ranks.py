"""Several processes of one workload on one host, one per rank, and what they say to each other.

    python -P -m aisp_trace.workloads.ddp_overlap ...            rank 0, as a person or `capture` starts it
      `- the same command line with RANK=1 ...                   started by rank 0, and ended with it

    torchrun --nproc-per-node 2 -m aisp_trace.workloads.ddp_overlap ...      all ranks are there already

Every rank runs the same code and the same measurement, so collectives meet their counterparts. Rank 0 alone answers.
None outlives the others: a rank whose rank 0 dies is killed by the kernel, and rank 0 ends when another rank fails,
since a collective that has lost a member would wait for it until `TIMEOUT_S` has passed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Final, Protocol

import torch
import torch.distributed as dist
import torch.distributed.nn  # before any group: loaded later it keeps the group alive, and gloo's threads abort at exit

from ..traces.errors import UsageError

TIMEOUT_S: Final = 120.0
"""How long ranks wait for each other: starting torch on a loaded machine takes the longest, tens of seconds."""

GRACE_S: Final = 10.0
"""How long the other ranks may take to leave after rank 0 is done."""

FAILED: Final = 2
PORT_VARIABLE: Final = "AISP_TRACE_STORE_PORT"
PARENT_VARIABLE: Final = "AISP_TRACE_RANK_0"

_PR_SET_PDEATHSIG: Final = 1
"""prctl's option (linux/prctl.h): the signal a process gets when its parent dies."""


class Pending(Protocol):
    """A collective on its way."""

    def wait(self) -> object:
        """On CUDA, let the current stream wait for its end; on a CPU, wait for it."""


class Ranks:
    """This process's place among its peers."""

    def __init__(self, rank: int, world: int, host_group: dist.ProcessGroup | None) -> None:
        self.rank = rank
        self.world = world
        self._host_group = host_group

    def all_reduce(self, tensor: torch.Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Pending:
        """Begin to combine `tensor` of all ranks, in place. All ranks begin the same collectives in the same order."""
        work: Pending = dist.all_reduce(tensor, op, async_op=True)
        return work

    def barrier(self) -> None:
        """Return when all ranks are here. The hosts meet, not the devices: nothing is launched."""
        dist.barrier(group=self._host_group)

    def agree(self, number: int) -> int:
        """Rank 0's `number`, of less than 64 bits, on the host. All ranks call it together."""
        said = torch.tensor([number])
        dist.broadcast(said, 0, group=self._host_group)
        return int(said)

    def abandon(self) -> None:
        """After a failure: do not leave the others waiting in a collective. Nothing to do where there are none."""
        for peer in _peers:
            peer.kill()


_peers: list[subprocess.Popen[bytes]] = []
"""The processes this one started."""

_leaving = threading.Event()


def join(device: torch.device, world: int) -> Ranks:
    """Meet the other ranks, of which there are `world` in all; started by nothing that knows of ranks, start them.

    Raises `UsageError` if there are too few GPUs, or another number of ranks was started.
    """
    if device.type == "cuda" and torch.cuda.device_count() < world:
        raise UsageError(
            f"{world} GPUs are needed, one for each rank, and this process can use {torch.cuda.device_count()}; "
            f"use --device cpu, or see `aisp-trace doctor`"
        )
    if "RANK" not in os.environ:
        store = _start_others(world)
    elif PORT_VARIABLE in os.environ:
        _die_with(int(os.environ[PARENT_VARIABLE]))
        store = dist.TCPStore("127.0.0.1", int(os.environ[PORT_VARIABLE]), world, False, timeout=_timeout())
    else:
        store = None  # torchrun says where to meet
    rank, found = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if found != world:
        raise UsageError(f"{world} ranks are needed and {found} were started; use torchrun --nproc-per-node {world}")
    cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=store,
        rank=rank if store is not None else -1,
        world_size=world if store is not None else -1,
        timeout=_timeout(),
        device_id=device if cuda else None,
    )
    host_group = dist.new_group(backend="gloo", timeout=_timeout()) if cuda else None
    atexit.register(_leave)
    return Ranks(rank, world, host_group)


def _timeout() -> timedelta:
    return timedelta(seconds=TIMEOUT_S)


def _start_others(world: int) -> dist.TCPStore:
    """This process becomes rank 0, and its own command line is started once for each further rank."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on one host; its name may resolve to nothing
    store = dist.TCPStore("127.0.0.1", 0, world, True, timeout=_timeout(), wait_for_workers=False)
    common = {**os.environ, PORT_VARIABLE: str(store.port), PARENT_VARIABLE: str(os.getpid()), "WORLD_SIZE": str(world)}
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(world)}
    for rank in range(1, world):
        environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, *sys.orig_argv[1:]]
        peer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        _peers.append(peer)
        threading.Thread(target=_watch, args=(rank, peer), daemon=True).start()
    return store


def _die_with(parent: int) -> None:
    """Be killed when process `parent` dies, or now if it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FAILED)


def _watch(rank: int, peer: subprocess.Popen[bytes]) -> None:
    """End this process if a peer ends badly: the main thread may be inside a collective that will never end."""
    code = peer.wait()
    if code != 0 and not _leaving.is_set():
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        print(f"rank {rank} ended with {how}; its own words stand above", file=sys.stderr, flush=True)
        for other in _peers:
            other.kill()
        os._exit(FAILED)


def _leave() -> None:
    """At the end of every rank: the group is taken down, and rank 0 sees the others off."""
    try:
        if dist.is_initialized() and all(peer.poll() in (None, 0) for peer in _peers):
            dist.destroy_process_group()
        for peer in _peers:
            peer.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass  # ended below
    finally:
        _leaving.set()
        for peer in _peers:
            peer.kill()
            peer.wait()
