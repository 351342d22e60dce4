"""Stands before the real llvmlite on PYTHONPATH, so that a test run and all its child processes find none."""

raise ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite")
