"""Pure functions from the tables of a trace to numbers. Called like a function it is `api.analyze_recording`:

    aisp_trace.analyze("train.sqlite", window="step#3")

(A package and a function of one name: whichever is imported first, ``aisp_trace.analyze`` is this module.)
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Analyze(ModuleType):
    def __call__(self, source: Any, **choices: Any) -> Any:
        """See `api.analyze_recording`."""
        from .api import analyze_recording

        return analyze_recording(source, **choices)


sys.modules[__name__].__class__ = _Analyze
