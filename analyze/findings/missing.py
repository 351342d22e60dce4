"""What the first lines say where device operations are missing, of the trace or of a process: what is known instead, and the
remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ..accounts.trust import COUNTED
from ..result import Analysis
from ..words import duration, shorten

CALLS: Final = 3
"""Calls that are named."""

PROCESSES: Final = 4
"""Processes that are named."""

WIDTH: Final = 40
"""Columns for a name in these sentences."""

_RECORD: Final = {
    "nsys": "record with `nsys profile --trace=cuda,nvtx`",
    "torch": "record with `activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]`",
}
_LOST: Final = {
    "nsys": (
        "the recorder got the calls but not what the device did: its buffers were not flushed, or CUPTI could not record. Let "
        "every process exit before the recording stops, or flush with `--cuda-flush-interval=1000`"
    ),
    "torch": (
        "the profiler got the calls but not what the device did: CUPTI could not record. See what it printed, run no other "
        "profiler beside it, and warm it up with `schedule(wait=1, warmup=1, ...)`"
    ),
}
"""`--cuda-flush-interval` is in milliseconds (Nsight Systems User Guide, CLI profile options)."""


def missing_sentences(analysis: Analysis) -> Iterator[str]:
    """Doubts first (`accounts.oddities`); then sentences for an analysis without device operations, and for processes that lack
    more than half of theirs."""
    recorder = analysis.meta.recorder
    for text in analysis.oddities.filter("doubt")["text"]:
        yield f"DOUBT: {text}."
    rows = analysis.launch_rows.filter(pl.col("missing") > 0)
    if analysis.devices.is_empty():
        if analysis.first_op_ns is not None:
            where = "lies in this window" if analysis.choices.window is not None else "of the recording takes any time"
            yield f"No device operation {where}: only host times are known."
            return
        yield from _no_operations(analysis, rows, recorder)
        return
    lacking = rows.filter(2 * pl.col("missing") > pl.col("launches"))
    if lacking.is_empty():
        return
    named = [
        f"{missing:,} of {launches:,} launches of process {pid & 0xFFFFFF}"
        + (f" ({shorten(process, WIDTH)})" if process else "")
        for pid, process, launches, missing in lacking.select("pid", "process", "launches", "missing")
        .head(PROCESSES)
        .iter_rows()
    ]
    more = f" and of {lacking.height - PROCESSES} more processes" if lacking.height > PROCESSES else ""
    whose = "its" if lacking.height == 1 else "their"
    yield (
        f"MISSING: {', '.join(named)}{more} have no device row: no figure here counts {whose} operations. "
        f"{_sentence(_LOST.get(recorder, _LOST['nsys']))}"
    )


def _no_operations(analysis: Analysis, lacking: pl.DataFrame, recorder: str) -> Iterator[str]:
    record = _RECORD.get(recorder, _RECORD["nsys"])
    homeless = analysis.meta.anomalies.get("ops_without_device", 0)
    counted = analysis.meta.unread.get(COUNTED, 0)
    launches, missing = int(analysis.launch_rows["launches"].sum()), int(lacking["missing"].sum())
    if homeless:
        yield (
            f"No device operation can be used: {homeless:,} rows name no device, so only host times are known. Another "
            "version of the profiler may write it."
        )
    elif counted:
        yield (
            f"No device operations were recorded: the profiler collected counters over {counted:,} ranges instead ({COUNTED}, "
            "not read here), so only host times are known. Record without profiler metrics in `experimental_config`."
        )
    elif missing:
        yield (
            f"No device operations were recorded: {missing:,} of {launches:,} launches have no device row, so only host times "
            f"are known. {_sentence(_LOST.get(recorder, _LOST['nsys']))}"
        )
    elif analysis.api_calls.is_empty():
        yield (
            "No device operations were recorded, and no calls that launch any: only host times are known. If the program uses "
            f"a GPU, {record}."
        )
    else:
        yield (
            "No device operations were recorded, and none of the recorded calls launches any: only host times are known. If "
            f"the program uses a GPU here, {record} around the part that does."
        )
    if not analysis.api_calls.is_empty():
        named = [
            f"{shorten(name, WIDTH)} {duration(total)} in {n:,} call{'' if n == 1 else 's'} (longest {duration(longest)})"
            for name, n, total, longest in analysis.api_calls.head(CALLS).iter_rows()
        ]
        more = analysis.api_calls.height - CALLS
        yield f"what the host called, costliest first: {', '.join(named)}{f' and {more} more below' if more > 0 else ''}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
