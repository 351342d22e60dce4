"""The domains of our own ranges, and what phases are called: for ``capture/phases.py``, which opens them, and for readers."""

from __future__ import annotations

from typing import Final

STAGES: Final = "aisp"
PHASES: Final = "aisp.phases"

PHASE_KINDS: Final = {
    "step": "",
    "data": "host",
    "load": "host",
    "forward": "compute",
    "backward": "compute",
    "optimizer": "compute",
}
"""The phases and their kinds (a stage's kind, see `model.STAGE_KINDS`); a step has none, and is its phases."""
