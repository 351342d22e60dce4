"""The nvtx package after a fork. It keeps the handles of strings that it registered, and in the child they are no good any more:
under nsys 2022.4 the ranges of a name that the parent had used are lost there, or come out under another's name.

Imports the standard library alone: it is also loaded into processes that lack this package (``inside/sitecustomize.py``).
"""

from __future__ import annotations

import os
import sys


def install() -> None:
    """See to it in every process that this one forks."""
    os.register_at_fork(after_in_child=forget_nvtx)


def forget_nvtx() -> None:
    """Have the nvtx package, if it is imported, register its strings anew; those of a parent are no good after a fork."""
    nvtx = sys.modules.get("nvtx.nvtx")
    domain = getattr(nvtx, "Domain", None)
    kept = [
        getattr(domain, name, None) for name in ("get_registered_string", "get_category_id", "get_event_attributes")
    ]
    for cache in (getattr(nvtx, "get_domain", None), *kept):
        if cache is not None and hasattr(cache, "cache_clear"):
            cache.cache_clear()
