"""A pynvml without a GPU: two GPUs that answer what a test says, and fail when it says."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

UUIDS = ("GPU-aaaa-0", "GPU-bbbb-1")


class NVMLError(Exception):
    """As in pynvml."""


@dataclass
class FakeNvml:
    """Stands in for the module. The energy rises by `step_mj` a reading; calls named in `broken` raise.

    After `dies_at` readings of energy, all calls raise. `looked` is set by the sixth: two of both GPUs in the thread.
    """

    step_mj: int = 1000
    sm_mhz: int = 1980
    reasons: int = 0x4
    broken: frozenset[str] = frozenset()
    dies_at: int | None = None
    threads: set[str] = field(default_factory=set)
    opened: int = 0
    closed: int = 0
    looked: threading.Event = field(default_factory=threading.Event)
    energy_mj: int = 0
    energy_calls: int = 0

    def module(self) -> ModuleType:
        """What ``import pynvml`` is to give."""
        made = ModuleType("pynvml")
        made.NVMLError = NVMLError  # type: ignore[attr-defined]
        calls = {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shut_down,
            "nvmlDeviceGetCount": lambda: len(UUIDS),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetUUID": lambda handle: UUIDS[handle],
            "nvmlDeviceGetTotalEnergyConsumption": self._energy,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: self.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: self.reasons,
            "nvmlDeviceGetClockInfo": lambda handle, kind: {1: self.sm_mhz, 2: 2619}[kind],
            "nvmlDeviceGetPowerUsage": lambda handle: 400_000,
            "nvmlDeviceGetTemperature": lambda handle, sensor: 55,
        }
        for name, call in calls.items():
            setattr(made, name, self._guarded(name, call))
        return made

    def _guarded(self, name: str, call: Any) -> Any:
        def asked(*arguments: Any) -> Any:
            dead = self.dies_at is not None and self.energy_calls >= self.dies_at and name != "nvmlShutdown"
            if name in self.broken or dead:
                raise NVMLError(name)
            return call(*arguments)

        return asked

    def _init(self) -> None:
        self.opened += 1

    def _shut_down(self) -> None:
        self.closed += 1

    def _energy(self, handle: int) -> int:
        self.threads.add(threading.current_thread().name)
        self.energy_calls += 1
        self.energy_mj += self.step_mj
        if self.energy_calls >= 6:
            self.looked.set()
        return self.energy_mj
