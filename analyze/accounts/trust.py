"""How far each metric can be believed, with the reason.

Levels: ``ok``; ``partial`` (the figure exists, but part of its evidence is missing or it bounds the truth from one side);
``unavailable`` (the trace cannot say). A verdict on evidence that is not ``ok`` is at best `invalid` or inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ...traces.model import COPY_KINDS, KINDS, Trace
from ..attribution.attribute import Attributed
from ..attribution.lanes import Lanes
from ..attribution.launches import Launches
from ..attribution.stages import AMBIGUOUS_STAGE, ORPHAN_STAGE, Stages
from ..attribution.window_ops import CUT
from ..intervals import Ints
from ..result import SCHEMAS
from .bandwidth import copies_of
from .contention import feeds
from .diagnostics import quoted
from .oddities import TOLERATED, Oddity, silent_processes

METRICS: Final = (
    "ledger",
    "causes",
    "projection",
    "overlap",
    "bandwidth",
    "allocator",
    "comm",
    "bytes",
    "time",
    "contention",
    "latency",
    "processes",
)

FED: Final = 0.5
"""From this share of what lies under kernels on, it matters whether these waited for it."""

ENOUGH_ALONE: Final = 0.5
"""The share of the kernels that ran beside other work which must have been seen alone, in the same stage."""

NAMED: Final = 4
"""Processes that lack device rows and are named."""

_WAITING: Final = "a collective's time includes waiting for the slowest rank"

_LOSS: Final = re.compile(r"dropped|lost|discarded|overflow|not collected|incomplete|out of memory|non-fatal", re.I)


_CAPTURED: Final = {
    "nsys": "start recording before the capture (nsys --cuda-graph-trace=node)",
    "torch": "torch.profiler does not record it, nsys --cuda-graph-trace=node does",
}

COUNTED: Final = "cuda_profiler_range"
"""Category of torch's events where CUPTI counts over ranges instead of recording what runs (``profiler_metrics``)."""

_EVENTS: Final = {
    "events_damaged": "they are not JSON",
    "events_never_ended": "they begin and never end",
    "events_never_begun": "they end and never began",
}
"""Why events of a torch.profiler document are left out (`traces.kineto.document`)."""


_COLUMNS: Final = ("kind", "nbytes", "stage", "correlation", "src_kind", "dst_kind")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the analysis counted on its way; shares are of ops or of launch calls."""

    windows: int
    unseen_ns: int
    ops: int
    orphans: int
    migrations: int
    ambiguous: int
    launch_calls: int
    unrecorded: int
    incomplete: str
    calls: int
    stages: int
    unclosed: int
    crossing: bool
    guessed: int
    graphs: int
    uncaptured: int
    comm_ops: int
    copies: int
    copies_without_bytes: int
    copies_cut: int
    peer_copies: int
    host_devices: bool
    fed_ns: int
    under_ns: int


def trust_table(
    trace: Trace,
    facts: Facts,
    odd: Sequence[Oddity],
    ledger: pl.DataFrame,
    collectives: pl.DataFrame,
    contention: pl.DataFrame,
    hbm: tuple[str, str, str] | None,
) -> pl.DataFrame:
    """Table ``trust``: one row a metric, the most serious level with all reasons of that level, and the row `hbm` if given.

    `causes` are partial where waits in the `ledger` rest on ranges alone. `comm` is ok where every one of the `collectives` (that
    table) was paired beyond doubt. `contention` is that table.
    """
    found: dict[str, list[tuple[str, str]]] = {m: [] for m in METRICS}

    def say(level: str, metrics: Iterable[str], reason: str) -> None:
        for metric in metrics:
            found[metric].append((level, reason))

    for one in odd:
        say(one.level, one.metrics, one.text)
    if facts.ops == 0:
        say(
            "unavailable",
            (*(() if facts.windows else ("ledger", "causes")), "overlap", "bandwidth", "bytes", "comm"),
            "the window has no device operations" if trace.ops.height else "the trace has no device operations",
        )
    if facts.windows and facts.unseen_ns:
        text = (
            f"{facts.unseen_ns} ns of the window lie before the first recorded event or after the last: "
            "what ran then is unknown"
        )
        say("partial", ("ledger", "causes"), text)
    if facts.stages == 0:
        say("unavailable", ("projection",), "the trace has no stage ranges")
    if facts.ops and not facts.calls and not facts.host_devices:
        say("unavailable", ("causes", "projection", "allocator"), "the trace has no API calls, so no launch is known")
    lost = facts.orphans - facts.migrations
    if facts.ops and lost > TOLERATED * facts.ops and facts.calls:
        text = f"{lost} of {facts.ops} operations have no launching call (recording began late or lost calls)"
        say("partial", ("causes", "projection"), text)
    if facts.ops and facts.migrations > TOLERATED * facts.ops and facts.calls:
        text = f"{facts.migrations} of {facts.ops} operations are migrations of unified memory, which no call launches"
        say("partial", ("causes", "projection"), text)
    if facts.unrecorded > max(TOLERATED * facts.launch_calls, 0):
        text = f"{facts.unrecorded} of {facts.launch_calls} launches have no device row{facts.incomplete}: {_without_rows(trace)}"
        half = facts.unrecorded > facts.launch_calls / 2
        say(
            "unavailable" if half else "partial",
            ("ledger", "causes", "projection", "overlap", "bandwidth", "bytes"),
            text,
        )
    if facts.ambiguous > TOLERATED * max(facts.ops, 1):
        say("partial", ("projection",), f"{facts.ambiguous} of {facts.ops} operations fit several threads' stages")
    if facts.unclosed:
        say("partial", ("projection",), f"{facts.unclosed} stage ranges were still open when recording stopped")
    if facts.guessed > TOLERATED * max(facts.ops, 1):
        text = f"{facts.guessed} operations fit several ranges that were handed from thread to thread, and count for the latest"
        say("partial", ("projection",), text)
    if facts.crossing:
        say("partial", ("projection",), "stage ranges of one thread cross each other")
    guessed_ns = int(ledger.filter(pl.col("cause") == "waiting")["ns"].sum()) if trace.osrt.is_empty() else 0
    if guessed_ns > TOLERATED * int(ledger["ns"].sum()):
        text = (
            f"{guessed_ns} ns count as waiting for another thread because its ranges were open; "
            "record operating-system calls (nsys --trace=osrt, or --profile deep) to know"
        )
        say("partial", ("causes",), text)
    if facts.graphs:
        text = f"{facts.graphs} graph launches are recorded whole; record with --cuda-graph-trace=node to see inside"
        say("partial", ("ledger", "overlap"), text)
        say("unavailable", ("bytes",), text)
    if facts.stages and facts.uncaptured > TOLERATED * facts.ops:
        text = (
            f"{facts.uncaptured} operations of CUDA graphs count for the stage that replays them, because the trace does not "
            "say in which one they were captured: the rows of those stages hold whole graphs, not their parts; "
            f"{_CAPTURED.get(trace.meta.recorder, _CAPTURED['nsys'])}"
        )
        say("partial", ("projection",), text)
    for reason in _unsplit(facts.comm_ops, collectives):
        say("partial", ("comm",), reason)
    if facts.copies_without_bytes:
        say(
            "partial",
            ("bandwidth", "bytes"),
            f"{facts.copies_without_bytes} of {facts.copies} copies have no byte count",
        )
    if facts.peer_copies:
        text = (
            f"{facts.peer_copies} copies between devices are compared with the work of the device they are recorded under; "
            "what the other one computed meanwhile is not counted"
        )
        say("partial", ("overlap",), text)
    if facts.fed_ns > FED * facts.under_ns:
        text = (
            f"{facts.fed_ns} of {facts.under_ns} ns of hidden copies and communication lie under kernels that end with them; "
            "a kernel that waits for a copy hides none of it"
        )
        say("partial", ("overlap",), text)
    for level, reason in _alone(contention):
        say(level, ("contention",), reason)
    if facts.copies_cut:
        text = f"{facts.copies_cut} of {facts.copies} copies are cut by the window: how many bytes they moved in it is unknown"
        say("partial", ("bandwidth", "bytes"), text)
    if facts.ops and not facts.host_devices and trace.memory.is_empty():
        host = any(name.startswith("[memory]") for name in trace.meta.unread)
        text = "memory events are those of the host, which are not read" if host else "memory events were not recorded"
        say("partial", ("allocator",), f"{text}, only the time inside allocator calls is known")
    losses = [
        t for t in trace.diagnostics.filter(pl.col("severity") != "info")["text"].to_list() if t and _LOSS.search(t)
    ]
    for text in losses[:3]:
        say("partial", ("ledger", "causes", "projection", "overlap", "bytes"), f"the recorder says: {quoted(text)}")
    for name, count in trace.meta.anomalies.items():
        if count and name.startswith(("ops", "api")):
            most = name == "ops_out_of_range" and count > facts.ops  # what is left is the smaller half
            text = f"{count} rows could not be used ({name.replace('_', ' ')})"
            say("unavailable" if most else "partial", ("ledger", "causes"), text)
        elif count and name in _EVENTS:
            text = f"{count} events of the file are left out ({_EVENTS[name]})"
            say("partial", ("ledger", "causes", "projection", "overlap", "bytes"), text)
        elif count and name == "ranges_without_thread":
            say("partial", ("projection",), f"{count} ranges do not say on which thread they were")
        elif count and name == "ranges_out_of_range":
            say("partial", ("projection",), f"{count} ranges have impossible times and are left out")
        elif count and name in ("memory_out_of_range", "memory_with_odd_bytes"):
            text = f"{count} memory events have impossible times or sizes and are left out"
            say("partial", ("allocator",), text)
        elif count and name == "copies_of_unknown_kind":
            text = f"{count} copies do not say their direction and count by the memory they name, else as d2d"
            say("partial", ("ledger", "overlap", "bandwidth", "bytes"), text)
    rows = [*(_worst(m, found[m]) for m in METRICS), *([hbm] if hbm else [])]
    return pl.DataFrame(rows, schema=SCHEMAS["trust"], orient="row")


def _without_rows(trace: Trace) -> str:
    """Why launches have no device row, as far as the trace says."""
    if trace.meta.anomalies.get("ops_without_device"):
        return "rows name no device"
    return "the profiler counted instead of recording" if COUNTED in trace.meta.unread else "operations were lost"


def _unsplit(comm_ops: int, collectives: pl.DataFrame) -> Iterator[str]:
    """Why it is not known how much of the time of `collectives` was waiting; these are empty where nobody tried to pair them."""
    if comm_ops and collectives.is_empty():
        yield _WAITING
    total, paired, in_doubt = (int(collectives[name].sum()) for name in ("ops", "paired", "in_doubt"))
    if paired < total:
        yield f"{_WAITING}: {total - paired} of {total} have no other rank in the trace or cannot be split"
    absent = int(collectives["absent"].sum())
    if absent:
        size = int(collectives.select(pl.col("group_size").max()).item())
        yield f"{absent} of {total} are of groups of up to {size} ranks, not all of which are in the trace"
    if in_doubt:
        text = "collectives may belong to several communicators that run in step, and so wait for fewer ranks"
        yield f"{in_doubt} of {total} {text}"


def _alone(contention: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """How much of `contention` rests on kernels that ran alone, too: (level, reason) where too little does."""
    whole = contention.filter(pl.col("stage").is_null())
    kernels, compared, elsewhere = (int(whole[name].sum()) for name in ("kernels", "compared", "elsewhere"))
    if kernels and not compared:
        yield "unavailable", f"none of {kernels} kernels that ran beside other work was seen alone with the same grid"
    elif compared < ENOUGH_ALONE * kernels:
        yield (
            "partial",
            f"only {compared} of {kernels} kernels that ran beside other work were seen alone with the same grid",
        )
    if elsewhere > ENOUGH_ALONE * compared:
        text = f"{elsewhere} of {compared} kernels were seen alone in other stages only, where they may do another amount of work"
        yield "partial", text


def _worst(metric: str, said: list[tuple[str, str]]) -> tuple[str, str, str]:
    for level in ("unavailable", "partial"):
        reasons = list(dict.fromkeys(r for lv, r in said if lv == level))
        if reasons:
            return metric, level, "; ".join(reasons)
    return metric, "ok", ""


def facts_of(a: Attributed, lanes: Lanes, launch_rows: pl.DataFrame) -> Facts:
    """The facts about the ops in the windows, and about the calls (table ``launch_rows``) and ranges of the whole trace.

    `lanes` are those of all ops."""
    whole = launch_rows.join(silent_processes(launch_rows), on="pid", how="anti", maintain_order="left")
    fed, under = feeds(a.in_window, lanes, a.host_devices)
    ops, stages = a.in_window.table, a.stages
    copies = copies_of(ops.select(*_COLUMNS, *([CUT] if CUT in ops.columns else [])))
    cut = int(copies[CUT].sum()) if CUT in copies.columns else 0
    counts = dict(zip(KINDS, np.bincount(a.in_window.kind, minlength=len(KINDS)).tolist(), strict=True))
    seen = min(a.limits[1], a.recorded[1]) - max(a.limits[0], a.recorded[0])
    return Facts(
        windows=len(a.spans),
        unseen_ns=0 if a.window.instants is None else a.limits[1] - a.limits[0] - max(seen, 0),
        ops=len(ops),
        orphans=int((ops["stage"] == ORPHAN_STAGE).sum()),
        migrations=_migrations(ops),
        ambiguous=int((ops["stage"] == AMBIGUOUS_STAGE).sum()),
        launch_calls=int(whole["launches"].sum()),
        unrecorded=int((whole["missing"] - whole["pending"]).sum()),
        incomplete=_incomplete(whole),
        calls=len(a.calls),
        stages=len(stages),
        unclosed=stages.unclosed,
        crossing=stages.crossing,
        guessed=_guessed(a.ops["stage"].to_numpy(), stages, a.launches),
        graphs=counts["graph"],
        uncaptured=_uncaptured(a),
        comm_ops=counts["comm"],
        copies=len(copies),
        copies_without_bytes=copies["nbytes"].null_count() - cut,
        copies_cut=cut,
        peer_copies=counts["p2p"],
        host_devices=bool(a.host_devices),
        fed_ns=fed,
        under_ns=under,
    )


def _uncaptured(a: Attributed) -> int:
    """Ops of CUDA graphs in the windows of which nobody knows when they were captured."""
    if a.captured is None:
        return 0
    rows = np.arange(len(a.in_window.table), dtype=np.int32)
    return int(a.captured.unknown[a.in_window.in_trace(rows)].sum())


def _incomplete(launch_rows: pl.DataFrame) -> str:
    """Where other processes are whole, those that lack rows, in parentheses."""
    lacking = launch_rows.filter(pl.col("missing") > TOLERATED * pl.col("launches"))
    if lacking.is_empty() or lacking.height == launch_rows.height:
        return ""
    of = [
        f"{missing} of {launches} of process {pid & 0xFFFFFF}"
        for pid, launches, missing in lacking.select("pid", "launches", "missing").head(NAMED).iter_rows()
    ]
    more = f" and {lacking.height - NAMED} more" if lacking.height > NAMED else ""
    return f" ({', '.join(of)}{more})"


def _migrations(ops: pl.DataFrame) -> int:
    """How many of the orphans among `ops` moved pages of unified memory, which the driver does by itself."""
    orphans = ops.filter(pl.col("stage") == ORPHAN_STAGE).select(_COLUMNS)
    moves = pl.col("kind").is_in([*COPY_KINDS, "migration"]) & (pl.col("correlation").fill_null(0) == 0)
    managed = (pl.col("src_kind") == "managed") | (pl.col("dst_kind") == "managed")
    return orphans.filter(moves & managed.fill_null(False)).height


def _guessed(stage: Ints, stages: Stages, launches: Launches) -> int:
    """Ops that belong to a range which one thread began for another to end, where it is the latest of several: launched by a
    thread that began, or was handed, several at a time. `stage` is the code of every op."""
    if not stages.is_handed.any():
        return 0
    rows = np.flatnonzero((stage >= 0) & (launches.thread >= 0))
    rows = rows[stages.is_handed[stage[rows]]]
    who = launches.thread[rows]
    launched_by = np.array([tid for _, tid in launches.threads], np.int64)[who]
    guess = np.zeros(len(rows), bool)
    for whose in (stages.tid, stages.end_tid):
        in_turn = stages.in_turn(whose)
        several = np.array([not in_turn.get(thread, True) for thread in launches.threads], bool)
        guess |= (launched_by == whose[stage[rows]]) & several[who]
    return int(guess.sum())
