"""The way in of the console script: the program is imported where an interrupt is one line already, not Python's traceback."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave() -> NoReturn:
    """`main.leave`; Ctrl-C while it is imported, which takes a quarter of a second, is answered as ever after."""
    try:
        from .main import leave as go
    except KeyboardInterrupt:
        sys.stderr.write("aisp-trace: interrupted\n")
        sys.stderr.flush()
        os._exit(130)
    go()
