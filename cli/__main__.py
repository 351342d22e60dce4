"""``python -P -m aisp_trace.cli`` is ``aisp-trace``, for machines on which the package is not installed."""

from __future__ import annotations

from .entry import leave

if __name__ == "__main__":
    leave()
