"""What this process may ask the kernel and the driver for: processor samples and the GPU's counters, and how to be allowed.

Neither is needed to record: profile minimal uses none of them. Profile deep samples GPU metrics, and ``--nsys-arg=--sample=...``
the processor. In containers both are refused more often than on the host, by other rules.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYS_ADMIN: Final = 21
"""Number of the capability (capability(7), linux/capability.h)."""

PARANOID: Final = Path("/proc/sys/kernel/perf_event_paranoid")
PARAMETERS: Final = Path("/proc/driver/nvidia/params")
"""Parameters of NVIDIA's kernel module; RmProfilingAdminOnly is NVreg_RestrictProfilingToAdminUsers there."""

MOST_PARANOID: Final = 2
"""The highest level at which a process may sample itself (perf_event_open(2)); nsys asks for no more."""

PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
"""Number of the system call by architecture (asm/unistd_64.h, asm-generic/unistd.h)."""

COUNTER_WORDS: Final = ("ERR_NVGPUCTRPERM", "Insufficient privilege")
"""How nsys says that the driver refuses its counters."""

COUNTERS_REMEDY: Final = (
    "as root: echo 'options nvidia NVreg_RestrictProfilingToAdminUsers=0' > /etc/modprobe.d/nvidia-profiling.conf, then load the "
    "module anew or restart; or run as root, in a container with --cap-add=SYS_ADMIN"
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Whether something may be used. `remedy` is empty where it may."""

    what: str
    found: str
    remedy: str = ""


def cpu_samples(paranoid: int | None, refused: int | None, in_container: bool) -> Allowed:
    """Of processor samples: `paranoid` is the kernel's level, `refused` the errno of opening a counter (null: it opened)."""
    what = "cpu samples"
    level = "no perf_event_paranoid" if paranoid is None else f"perf_event_paranoid {paranoid}"
    if refused is None:
        return Allowed(what, f"{level}, and a counter can be opened")
    found = f"{level}, and a counter is refused ({errno.errorcode.get(refused, refused)}); recordings do without"
    if paranoid is not None and paranoid > MOST_PARANOID:
        where = "on the host, because a container shares its kernel's setting: " if in_container else ""
        return Allowed(what, found, f"{where}sysctl -w kernel.perf_event_paranoid={MOST_PARANOID} as root")
    if refused in (errno.EPERM, errno.EACCES, errno.ENOSYS) and in_container:
        return Allowed(
            what, found, "the container's seccomp profile refuses it: docker run --cap-add=PERFMON --cap-add=SYS_ADMIN"
        )
    return Allowed(what, found, "this machine offers no counters, like many virtual ones; there is no remedy")


def gpu_counters(restricted: bool | None, capabilities: int) -> Allowed:
    """Of the GPU's counters: `restricted` is the driver's parameter (null: unknown), `capabilities` are the effective ones."""
    what = "gpu counters"
    admin = bool(capabilities >> SYS_ADMIN & 1)
    if restricted is None:
        return Allowed(what, "the driver does not say who may read them; profile deep shows it")
    if not restricted:
        return Allowed(what, "the driver lets everyone read them")
    if admin:
        return Allowed(what, "the driver keeps them for administrators, and this process is one (CAP_SYS_ADMIN)")
    return Allowed(
        what, "the driver keeps them for administrators, so profile deep is refused; minimal is not", COUNTERS_REMEDY
    )


def look(gpu: bool) -> list[Allowed]:
    """What holds for this process; of counters only where there is a `gpu`."""
    found = [cpu_samples(_paranoid(), _try_counter(), _in_container())]
    return [*found, gpu_counters(_restricted(), _capabilities())] if gpu else found


def refused_counters(said: str) -> str:
    """The remedy, if what nsys `said` is that the driver refuses its counters; else empty."""
    return COUNTERS_REMEDY if any(word in said for word in COUNTER_WORDS) else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _paranoid() -> int | None:
    text = _text(PARANOID).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _restricted(file: Path = PARAMETERS) -> bool | None:
    found = re.search(r"^RmProfilingAdminOnly:\s*(\d+)", _text(file), flags=re.MULTILINE)
    return None if found is None else found[1] != "0"


def _capabilities(file: Path = Path("/proc/self/status")) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", _text(file), flags=re.MULTILINE)
    return int(found[1], 16) if found else 0


def _in_container() -> bool:
    """Whether something says so: Docker and Podman leave a file, Kubernetes a variable, and control groups often a name."""
    files = any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv"))
    groups = re.search(r"docker|kubepods|containerd|libpod|lxc", _text(Path("/proc/1/cgroup")))
    return files or bool(os.environ.get("KUBERNETES_SERVICE_HOST")) or groups is not None


def _try_counter() -> int | None:
    """The errno of opening a software counter of this process (perf_event_open(2)); null if it opens."""
    number = PERF_EVENT_OPEN.get(platform.machine())
    if number is None or os.name != "posix":
        return errno.ENOSYS
    # perf_event_attr, version 0 of 64 bytes: type 1 (software), size, config 0 (cpu clock), and at 40 the flags
    # disabled, exclude_kernel, exclude_hv.
    attributes = (ctypes.c_uint8 * 64)()
    ctypes.memmove(attributes, (1).to_bytes(4, "little") + (64).to_bytes(4, "little"), 8)
    attributes[40] = 1 | 1 << 5 | 1 << 6
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, ctypes.byref(attributes), 0, -1, -1, 0)
    if descriptor < 0:
        return ctypes.get_errno()
    os.close(descriptor)
    return None
