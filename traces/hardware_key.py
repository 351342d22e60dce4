"""What a machine's hardware is called in the names of files and expectations. Needs nothing, so that asking is cheap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .content import bounded_key
from .errors import UsageError

MACHINE_VARIABLE: Final = "AISP_MACHINE"
"""What the user calls a machine whose processor's name says too little; it becomes part of the key."""

LONGEST_NAME: Final = 32
"""Characters of such a name: a key has at most 80, and the processor's name should be left in it."""

ARCHITECTURES: Final = frozenset(
    ("x86_64", "amd64", "i686", "aarch64", "arm64", "armv7l", "ppc64le", "s390x", "riscv64")
)
"""What stands for a processor that has no name: Arm's report none."""


def hardware_key(gpus: Sequence[str], cpu: str) -> str:
    """``h200``, ``2x_h200``, ``a100_and_h200``, or ``cpu_<model>`` where there is no GPU.

    It names files, so it has at most 80 characters; a longer one ends in a hash of the whole.
    """
    if not gpus:
        return bounded_key(f"cpu_{slug(cpu)}")
    kinds = sorted({slug(name) or "gpu" for name in gpus})
    if len(kinds) > 1:
        return bounded_key("_and_".join(kinds))
    return bounded_key(kinds[0] if len(gpus) == 1 else f"{len(gpus)}x_{kinds[0]}")


def named(cpu: str, name: str | None) -> str:
    """`cpu` with what its user calls the machine behind it, which makes a key of its own: ``AMD EPYC [build-7]``.

    Raises `UsageError` for a name without a letter or digit, or one too long for a key.
    """
    if not name:
        return cpu
    if not 0 < len(slug(name)) <= LONGEST_NAME:
        raise UsageError(
            f"{MACHINE_VARIABLE} is {name[:80]!r}; a machine's name has letters or digits, and at most {LONGEST_NAME} of them"
        )
    return f"{cpu} [{slug(name)}]"


def processor(cpu: str) -> str:
    """`cpu` without the name that `named` put behind it."""
    return re.sub(r" \[\w+\]$", "", cpu)


def is_vague(cpu: str) -> bool:
    """Whether processors of several speeds are called `cpu`, as in a virtual machine: it names no model, or an emulated one."""
    if processor(cpu) != cpu:
        return False
    name = re.sub(r"\b\d+-core\b", "", cpu.lower())
    return name in ARCHITECTURES or not re.search(r"\d", name) or re.search(r"qemu|kvm|virtual", name) is not None


def vague_key(key: str, cpu: str) -> str:
    """Why another machine may be judged by bounds for `key`, and the remedy; empty where it is a GPU's or names a model."""
    if not key.startswith("cpu_") or not is_vague(cpu):
        return ""
    return (
        f"{key} is no processor's model, as in a virtual machine: other machines may have this key and its bounds; name yours in "
        f"the environment of `capture`, {MACHINE_VARIABLE}=NAME, for a key of its own, {key}_NAME"
    )


def same_kind(key: str, cpu: str, other: str) -> str:
    """What gives the machine of `key`, whose processor is `cpu`, the key `other`, if only a name that users gave parts the two;
    empty where that cannot be.

    ``cpu_amd_epyc`` and ``cpu_amd_epyc_build_7``. The end of a model's name looks the same, so this is a condition, not a claim.
    """
    if not key.startswith("cpu_"):
        return ""
    unnamed = key if processor(cpu) == cpu else hardware_key((), processor(cpu))
    where = "in the environment of `capture` if it is the same kind of machine"
    if other == unnamed != key:
        return f"leave {MACHINE_VARIABLE} unset {where}"
    name = other.removeprefix(f"{unnamed}_")
    return f"set {MACHINE_VARIABLE}={name} {where}" if name != other and len(name) <= LONGEST_NAME else ""


def calibration_name(key: str) -> str:
    """The name of the file that holds the calibration of the hardware `key`."""
    return f"calibration_{key}.json"


def slug(text: str) -> str:
    """`text` as a key: ``NVIDIA H100 80GB HBM3`` -> ``h100_80gb_hbm3``."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return re.sub(r"^nvidia_", "", words)
