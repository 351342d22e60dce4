"""How much memory a source that a model wrote may take while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Bytes that its processes may hold: several times what the harness needs, whose largest shape has 1.5 GiB of operands."""

    host_bytes: int = 24 << 30
    device_bytes: int = 24 << 30
