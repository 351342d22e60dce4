"""The tables of an analysis: one line a table, and what each takes.

Each is a pure function of the attributed trace `a` and of what stands before it in the list, which it asks `made` for. A new
metric is one file in `accounts` and one line here: it comes out of `analyze` and of the exports, and gets a field of `Analysis`
once something reads it. On large traces they run side by side, two at a time and in this order; what leans on others stands
last, so that nothing waits while there is other work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import polars as pl

from ..traces.model import distinct_values
from .accounts.allocator import allocator_table
from .accounts.bandwidth import bandwidth_table
from .accounts.communication import collective_tables
from .accounts.concurrency import concurrency_tables
from .accounts.contention import contention_table
from .accounts.counters import counter_table, counter_trust
from .accounts.devices import by_device, window_table
from .accounts.diagnostics import diagnostic_table
from .accounts.gap_code import gap_code
from .accounts.gaps import gap_calls, gap_functions
from .accounts.host import call_table, domain_table, launch_rows
from .accounts.iterations import iteration_table, iteration_tables
from .accounts.launches import kernel_counts, kernel_sums, launch_table, top_kernels
from .accounts.ledger_tables import interrupted_gaps, ledger_tables
from .accounts.memory import concurrent_allocator, memory_tables
from .accounts.migrations import migration_table
from .accounts.oddities import oddities, oddity_table
from .accounts.operators import operator_table
from .accounts.peaks import with_peaks
from .accounts.replays import replay_table
from .accounts.stage_names import stage_names
from .accounts.stages import stage_tables
from .accounts.trust import facts_of, trust_table
from .accounts.work import work_table
from .attribution.attribute import Attributed
from .attribution.dependencies import awaited
from .attribution.lanes import lanes_of
from .headroom.helps import headroom_tables, modelled
from .headroom.path import critical_path
from .headroom.rates import rates_of
from .ranks.of_trace import job_table
from .result import SCHEMAS, joined
from .side_by_side import side_by_side

Made = Callable[[str], Any]
"""What was asked for (`peaks`, `largest_gaps`, `work`, `samples`, `untraced_ns`, `untraced_off`) or what an earlier step makes,
by its name; what is not ready is waited for."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, or several (`name` names them with spaces between) that `make` returns by their names."""

    name: str
    make: Callable[[Attributed, Made], Any]
    detail: bool = False  # left empty where no details are asked for
    shared: bool = False  # no table, but what several of them need
    only_if: str = ""  # left empty unless this was asked for


Detail: Final = partial(Table, detail=True)
Shared: Final = partial(Table, shared=True)

TABLES: Final[Sequence[Table]] = (
    Shared("lanes", lambda a, made: lanes_of(a.ops)),
    Shared("by_device", lambda a, made: by_device(a.in_window, a.trace.devices, a.stages, a.shown)),
    Shared("waits", lambda a, made: awaited(a.trace, a.calls, a.launches, made("lanes"))),
    Shared("interrupted", lambda a, made: interrupted_gaps(a)),
    Table("ledger gaps", lambda a, made: ledger_tables(a, made("waits"), made("interrupted"), made("largest_gaps"))),
    Table("work", lambda a, made: work_table(a.ops, a.spans, a.stages, a.host_devices), only_if="work"),
    Table("windows", lambda a, made: window_table(a.spans)),
    Table("domains", lambda a, made: domain_table(a.trace.ranges)),
    Table("api_calls", lambda a, made: call_table(a.trace.api, a.trace.ops, a.limits)),
    Table("iterations", lambda a, made: iteration_table(a.found, a.steady if a.is_steady else None, a.limits)),
    Table("bandwidth", lambda a, made: with_peaks(bandwidth_table(a.in_window.table), a.trace.devices, made("peaks"))),
    Table("diagnostics", lambda a, made: diagnostic_table(a.trace)),
    Table("launch_rows", lambda a, made: launch_rows(a.trace, a.calls, a.launches)),
    Shared("facts", lambda a, made: facts_of(a, made("lanes"), made("launch_rows"))),
    Detail("launches", lambda a, made: launch_table(a.in_window, a.ops, a.calls, a.launches, made("lanes"))),
    Shared("kernels", lambda a, made: kernel_sums(a.in_window, a.host_devices), detail=True),
    Detail("concurrency streams", lambda a, made: concurrency_tables(a.in_window, made("lanes"))),
    Detail(
        "memory memory_timeline stage_memory",
        lambda a, made: memory_tables(a.trace.memory, a.calls, a.stages, a.shown, a.limits, across=a.across),
    ),
    Detail(
        "concurrent_allocator",
        lambda a, made: concurrent_allocator(
            a.in_window, a.ops, a.calls, a.launches, made("interrupted"), a.host_devices
        ),
    ),
    Detail("contention", lambda a, made: contention_table(a.in_window, made("lanes"), a.host_devices)),
    Table("migrations", lambda a, made: migration_table(a.in_window)),
    Detail("operators", lambda a, made: operator_table(a)),
    Shared("model", lambda a, made: modelled(a), detail=True),
    Detail("critical", lambda a, made: critical_path(a, made("model"))),
    Detail(
        "headroom replayed",
        lambda a, made: headroom_tables(
            made("model"),
            made("critical"),
            rates_of(a.trace.devices, made("peaks")),
            made("untraced_ns"),
            made("untraced_off"),
        ),
    ),
    Detail("replays", lambda a, made: replay_table(a)),
    Detail(
        "collectives skews",
        lambda a, made: collective_tables(a.in_window, a.ops, a.trace.comms, a.host_devices),
    ),
    Detail("iteration_kinds iteration_overlap iteration_exposed", lambda a, made: iteration_tables(a.in_window)),
    Detail("counters", lambda a, made: counter_table(a.in_window, a.trace.gpu_metrics, a.trace.devices)),
    # From here on, tables lean on the ones above.
    Table(
        "devices kinds overlap exposed",
        lambda a, made: joined(made("by_device"), "devices", "kinds", "overlap", "exposed"),
    ),
    Table(
        "stages stage_kinds",
        lambda a, made: stage_tables(
            made("by_device"), a.stages, a.shown, a.trace.ranges, a.cut_at, made("collectives")
        ),
    ),
    Table("stage_names", lambda a, made: stage_names(a.found, a.stages, a.shown, a.cut_at)),
    Detail("job", lambda a, made: job_table(a, made("ledger"))),
    Detail(
        "gap_calls",
        lambda a, made: gap_calls(a.trace, a.calls, a.launches, a.spans, made("interrupted"), made("gaps")),
    ),
    Detail(
        "gap_functions",
        lambda a, made: gap_functions(
            a.trace.ops, a.launches, a.spans, made("interrupted"), made("gaps"), made("samples")
        ),
    ),
    Detail(
        "gap_code",
        lambda a, made: gap_code(a.trace, a.found, a.recorded, a.launches, a.spans, made("interrupted"), made("gaps")),
    ),
    Table(
        "allocator",
        lambda a, made: allocator_table(a.trace, a.calls, a.stages, a.limits, made("ledger"), across=a.across),
    ),
    Detail("kernel_counts", lambda a, made: kernel_counts(made("kernels"), made("ledger"), a.spans, a.host_devices)),
    Detail("top_kernels", lambda a, made: top_kernels(made("kernels"), distinct_values(a.ops["name"]))),
    Shared("odd", lambda a, made: oddities(a, made("launch_rows"), made("skews"), made("waits"))),
    Table("oddities", lambda a, made: oddity_table(made("odd"))),
    Table(
        "trust",
        lambda a, made: trust_table(
            a.trace,
            made("facts"),
            made("odd"),
            made("ledger"),
            made("collectives"),
            made("contention"),
            counter_trust(made("counters")),
        ),
    ),
)


def make_tables(a: Attributed, asked: Mapping[str, Any], *, details: bool) -> dict[str, pl.DataFrame]:
    """Every table of `TABLES` by its name; without `details` the detail tables are empty."""
    ready: dict[str, Callable[[], Any]] = {name: partial(asked.get, name) for name in asked}

    def made(name: str) -> Any:
        return ready[name]()

    with side_by_side(len(a.ops)) as start:
        for step in TABLES:
            names = step.name.split()
            if (step.detail and not details) or (step.only_if and not asked.get(step.only_if)):
                ready |= {name: partial(pl.DataFrame, schema=SCHEMAS.get(name)) for name in names}
            elif len(names) == 1:
                ready[step.name] = start(step.make, a, made)
            else:
                several = start(step.make, a, made)
                ready |= {name: partial(lambda n, wait: wait()[n], name, several) for name in names}
        return {name: made(name) for name in table_names()}


def table_names() -> list[str]:
    """What `TABLES` makes, in its order."""
    return [name for step in TABLES if not step.shared for name in step.name.split()]
