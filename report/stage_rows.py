"""The stage table, for every face: one row a stage and device, nested stages below the one they nest in.

Each column says whether it counts what nests in the stage (inclusive) or the stage alone (own). The terminal and the page show
these rows, these columns and these texts, so that they cannot differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import polars as pl

from ..analyze.naming.numbers import shape
from ..analyze.naming.paths import at_or_above, split
from ..analyze.result import IDLE, Analysis
from ..analyze.words import ms, percent

COST: Final = pl.max_horizontal(pl.col("projected_ns").fill_null(0), pl.col("host_ns"))
"""Of a stage: its work on the device from first to last, or its ranges' own time, whichever is longer."""

SMALL: Final = 0.001
"""Stages whose time on the host and in the ledger is a smaller part of the window share a row."""

_WAITS: Final = ("sync", "waiting")
_COPIES: Final = ("h2d", "d2h", "p2p", "d2d", "h2h", "memset", "migration")


@dataclass(frozen=True, slots=True)
class StageRow:
    """The figures of a stage on a device, times in ns. A null device is none: the stage launched nothing, and its ledger cells
    are those of all devices.

    `name` is what the stage is called below the row it nests in, `depth` how many rows it nests in. Inclusive: nested stages
    count, in all figures but `instances` and `own_idle_ns`. `compute_ns` (graphs included), `copy_ns` (a sum over kinds) and
    `comm_ns` are unions of operations, the two parts of `comm` sums of durations of paired collectives, null where none could
    be paired. `wait_ns`, `idle_ns` and `ledger_ns` are sums of ledger cells, `window_ns` what these are a share of.
    """

    device: int | None
    path: str
    name: str
    depth: int
    instances: int
    host_ns: int
    ops: int | None
    compute_ns: int
    copy_ns: int
    comm_ns: int
    comm_wait_ns: int | None
    comm_transfer_ns: int | None
    wait_ns: int
    idle_ns: int
    own_idle_ns: int
    ledger_ns: int
    window_ns: int


@dataclass(frozen=True, slots=True)
class StageTable:
    """The rows to show, and what of the others is said: `small` rows below `SMALL` of the window, whose own ledger cells are
    `small_ns` of the `window_ns` of all devices, and `shorter` ones beyond the number that was asked for.

    `communicates`: whether anything was communicated in the window.
    """

    rows: tuple[StageRow, ...]
    small: int
    small_ns: int
    window_ns: int
    shorter: int
    communicates: bool

    @property
    def columns(self) -> tuple[StageColumn, ...]:
        """Those of `COLUMNS` that this table has; without communication there are no parts of it."""
        return tuple(column for column in COLUMNS if self.communicates or not column.of_comm)

    @property
    def small_name(self) -> str:
        """What the row of all small stages is called."""
        return f"({self.small:,} below {percent(SMALL)}, {ms(self.small_ns)} ms)"

    @property
    def not_shown(self) -> str:
        """What is said of the `shorter` rows; empty without any."""
        return f"{self.shorter:,} more of at least {percent(SMALL)} are not shown" if self.shorter else ""

    @property
    def small_share(self) -> str | None:
        """Their share of the window."""
        return _share(self.small_ns, self.window_ns)


@dataclass(frozen=True, slots=True)
class StageColumn:
    """A column behind the stage's name. `means` completes its title in a legend, ``""``: the title says enough; ``{}`` in it is
    what stands for null. `text` is null for what does not exist or is unknown. Times are in ms."""

    title: str
    counts: Literal["inclusive", "own", ""]
    means: str
    text: Callable[[StageRow], str | None]
    of_comm: bool = False


def _ms(ns: int | None) -> str | None:
    """Work that a stage did not do reads as none."""
    return ms(ns) if ns else None


def _split(ns: int | None) -> str | None:
    """A zero was measured; what could not be paired is not known."""
    return None if ns is None else ms(ns)


def _share(ns: int, window: int) -> str | None:
    return percent(ns / window) if ns and window else None


def _number(n: int | None) -> str | None:
    return None if n is None else str(n)


COLUMNS: Final[tuple[StageColumn, ...]] = (
    StageColumn("dev", "", "", lambda r: _number(r.device)),
    StageColumn("n", "own", "", lambda r: str(r.instances)),
    StageColumn("host", "inclusive", "how long the ranges were open", lambda r: ms(r.host_ns)),
    StageColumn("each", "inclusive", "one instance of them", lambda r: ms(r.host_ns // r.instances)),
    StageColumn("ops", "inclusive", "", lambda r: _number(r.ops)),
    StageColumn("compute", "inclusive", "", lambda r: _ms(r.compute_ns)),
    StageColumn("copy", "inclusive", "", lambda r: _ms(r.copy_ns)),
    StageColumn("comm", "inclusive", "", lambda r: _ms(r.comm_ns)),
    StageColumn(
        "comm wait",
        "inclusive",
        "collectives before the last rank arrived ({} where other ranks are unknown)",
        lambda r: _split(r.comm_wait_ns),
        of_comm=True,
    ),
    StageColumn("comm transfer", "inclusive", "after it arrived", lambda r: _split(r.comm_transfer_ns), of_comm=True),
    StageColumn("wait", "inclusive", "the part of idle in which its threads waited", lambda r: _ms(r.wait_ns)),
    StageColumn("idle", "inclusive", "device time spent waiting for the stage", lambda r: _ms(r.idle_ns)),
    StageColumn("own idle", "own", "", lambda r: _ms(r.own_idle_ns)),
    StageColumn(
        "share",
        "inclusive",
        f"of the window, with rows under {percent(SMALL)} in one",
        lambda r: _share(r.ledger_ns, r.window_ns),
    ),
)


_IDLE_OF_HOST: Final = "time in it without compute, copies or communication"
"""What `idle` is where no device was recorded: nothing is idle then."""


def legend(columns: Sequence[StageColumn], absent: str, *, host_only: bool = False) -> str:
    """What `columns` count, in one sentence without a full stop. `absent` is how null is shown; `host_only`: no device was
    recorded."""
    if host_only:
        columns = [replace(c, means=_IDLE_OF_HOST) if c.title == "idle" else c for c in columns]
    own = [column.title for column in columns if column.counts == "own"]
    told = [f"{column.title}: {column.means.format(absent)}" for column in columns if column.means]
    except_ = f" but {' and '.join(own)}" if own else ""
    return f"every column{except_} counts nested stages; {'; '.join(told)}"


def stage_table(analysis: Analysis, most: int) -> StageTable:
    """The stages of `analysis`, at most the `most` costliest, in order of their cost within what they nest in."""
    ledger = ledger_of(analysis)
    large, small = _by_size(analysis.stages, ledger)
    shown = in_tree_order(large.sort(COST, descending=True, maintain_order=True).head(most))
    names = _names(shown["path"].to_list())
    unions: dict[tuple[int | None, str], dict[str, int]] = {}
    for number, path, kind, ns in analysis.stage_kinds.select("device", "path", "kind", "union_ns").iter_rows():
        unions.setdefault((number, path), {})[kind] = ns
    return StageTable(
        rows=tuple(_row(row, names[row["path"]], unions, ledger) for row in shown.iter_rows(named=True)),
        small=len(small),
        small_ns=sum(ledger.own[key] for key in {(d, path) for d, path in small if d is not None}),
        window_ns=ledger.window[None],
        shorter=len(large) - len(shown),
        communicates=not analysis.collectives.is_empty(),
    )


@dataclass(frozen=True, slots=True)
class Ledger:
    """ns of ledger cells by (device, stage). A null device stands for all; `of` and the others count nested stages, `own` not."""

    of: Mapping[tuple[int | None, str], int]
    idle: Mapping[tuple[int | None, str], int]
    waits: Mapping[tuple[int | None, str], int]
    own: Mapping[tuple[int | None, str], int]
    own_idle: Mapping[tuple[int | None, str], int]
    window: Mapping[int | None, int]


def ledger_of(analysis: Analysis) -> Ledger:
    """The ledger by stage, rolled up: what a stage's cells are is also its ancestors'."""
    of, idle, waits, own, own_idle = (Counter[tuple[int | None, str]]() for _ in range(5))
    cells = analysis.ledger.group_by("device", "stage", "category", "cause").agg(pl.col("ns").sum())
    for number, stage, category, cause, ns in cells.iter_rows():
        above = at_or_above(stage)
        for device in (number, None):
            own[device, stage] += ns
            own_idle[device, stage] += ns if category == IDLE else 0
            for path in above:
                of[device, path] += ns
                idle[device, path] += ns if category == IDLE else 0
                waits[device, path] += ns if cause in _WAITS else 0
    window: Counter[int | None] = Counter()
    for number, start, end in analysis.windows.select("device", "start_ns", "end_ns").iter_rows():
        window[number] += end - start
        window[None] += end - start
    return Ledger(of, idle, waits, own, own_idle, window)


def _by_size(stages: pl.DataFrame, ledger: Ledger) -> tuple[pl.DataFrame, list[tuple[int | None, str]]]:
    """(the rows of table ``stages`` to show by themselves, device and path of the others: none, or several)."""
    if not ledger.window[None]:
        return stages, []
    keep = [
        max(host, ledger.of[device, path]) >= SMALL * (ledger.window[device] or ledger.window[None])
        for device, path, host in stages.select("device", "path", "host_ns").iter_rows()
    ]
    small = stages.filter(~pl.Series(keep, dtype=pl.Boolean)).select("device", "path").rows()
    return (stages, []) if len(small) < 2 else (stages.filter(pl.Series(keep, dtype=pl.Boolean)), small)


def _row(
    row: Mapping[str, object],
    name: tuple[str, int],
    unions: Mapping[tuple[int | None, str], Mapping[str, int]],
    ledger: Ledger,
) -> StageRow:
    def number(column: str) -> int | None:
        value = row[column]
        return value if isinstance(value, int) else None

    device, path = number("device"), str(row["path"])
    key, union = (device, path), unions.get((device, path), {})
    return StageRow(
        *(device, path, *name),
        instances=number("instances") or 0,
        host_ns=number("host_ns") or 0,
        ops=None if device is None else number("ops"),
        compute_ns=union.get("compute", 0) + union.get("graph", 0),
        copy_ns=sum(union.get(kind, 0) for kind in _COPIES),
        comm_ns=union.get("comm", 0),
        comm_wait_ns=number("comm_wait_ns"),
        comm_transfer_ns=number("comm_transfer_ns"),
        wait_ns=ledger.waits[key],
        idle_ns=ledger.idle[key],
        own_idle_ns=ledger.own_idle[key],
        ledger_ns=ledger.of[key],
        window_ns=ledger.window[device],
    )


def _names(paths: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Each path's last name where what it nests in is shown, else the whole path; and how many rows it nests in."""
    shown = set(paths)
    names: dict[str, tuple[str, int]] = {}
    for path in sorted(shown, key=len):  # parents are shorter
        *above, name = split(path)
        parent = "/".join(above)
        names[path] = (name, names[parent][1] + 1) if parent in shown else (path, 0)
    return names


def in_tree_order(stages: pl.DataFrame) -> pl.DataFrame:
    """Rows of table ``stages`` with each stage behind the one it nests in; of several in one stage the costliest first, but
    those that differ in numbers alone, which are a sequence, together and in order of time.
    """
    by_path = stages.group_by("path").agg(COST.sum().alias("cost"), pl.col("first_start_ns").min())
    found = {path: (cost, first) for path, cost, first in by_path.iter_rows()}
    below: dict[str, dict[str, list[str]]] = {}
    for path in found:
        *above, name = split(path)
        parent = "/".join(above) if "/".join(above) in found else ""
        below.setdefault(parent, {}).setdefault(shape(name if parent else path), []).append(path)
    order: list[str] = []
    rising = [""]
    while rising:
        path = rising.pop()
        order += [path] if path else []
        alike = sorted(below.get(path, {}).items(), key=lambda one: (-sum(found[p][0] for p in one[1]), one[0]))
        inner = [p for _, paths in alike for p in sorted(paths, key=lambda p: (found[p][1], p))]
        rising += reversed(inner)
    place = pl.Series("place", order, dtype=pl.String)
    ranked = pl.DataFrame({"path": place, "rank": range(len(order))}, schema_overrides={"rank": pl.Int64})
    return stages.join(ranked, on="path").sort("rank", "device", nulls_last=False).drop("rank")
