"""``python -P -m aisp_trace.cli`` is ``aisp-trace``, for machines on which the package is not installed."""

from __future__ import annotations

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
