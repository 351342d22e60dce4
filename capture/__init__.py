"""Making runs: the plan, the recorders, the host's facts, and the stage ranges workloads carry.

Nothing here imports torch, polars or plotly when it is imported, so that a GPU host needs little more than torch
and nvtx to record.
"""
