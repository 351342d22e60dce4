"""Stands before the real numba on PYTHONPATH, so that a test run and all its child processes find none."""

raise ModuleNotFoundError("No module named 'numba'", name="numba")
