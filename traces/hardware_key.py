"""What a machine's hardware is called in the names of files and expectations. Needs nothing, so that asking is cheap."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .content import bounded_key


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


def calibration_name(key: str) -> str:
    """The name of the file that holds the calibration of the hardware `key`."""
    return f"calibration_{key}.json"


def slug(text: str) -> str:
    """`text` as a key: ``NVIDIA H100 80GB HBM3`` -> ``h100_80gb_hbm3``."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return re.sub(r"^nvidia_", "", words)
