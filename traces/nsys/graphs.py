"""When the nodes of CUDA graphs were captured.

    capture         node 1.7 is made                    row: 1.7
    instantiate     node 2.3 is made, a clone of 1.7    rows: 2.3, and 2.3 with originalGraphNodeId 1.7
    replay          node 2.3 runs                       a kernel with graphNodeId 2.3

A clone is as old as its original. That one may be a clone, too: of a graph that was cloned before it was instantiated
(cudaGraphClone), or made a child of another; the first of all was captured. The upper half of an id is its graph: a node of an
executable graph that is not a clone was made by the driver, and nobody captured it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import polars as pl

from .ids import Hosts
from .usable import known

_GRAPH: Final = 1 << 32


def read_graph_nodes(raw: pl.DataFrame, hosts: Hosts, odd: Counter[str]) -> pl.DataFrame:
    """The table `graph_nodes` from the rows of CUDA_GRAPH_NODE_EVENTS; those without a time, thread or node are left out."""
    for column in ("start", "globalTid", "graphNodeId"):
        raw = known(raw, column, "graph_nodes_incomplete", odd, least=0)
    rows = raw.select(
        hosts.pid("globalTid"),
        (pl.col("globalTid") % (1 << 24)).cast(pl.Int32).alias("tid"),
        pl.col("start").alias("time_ns"),
        pl.col("graphNodeId").alias("graph_node"),
        pl.when(pl.col("originalGraphNodeId") != 0).then("originalGraphNodeId").alias("original"),
    )
    key = ["pid", "graph_node"]
    made = rows.filter(pl.col("original").is_null()).unique(key, keep="first", maintain_order=True).drop("original")
    clones = rows.filter(pl.col("original").is_not_null()).unique(key, keep="first", maintain_order=True)
    of_clones = _first_of_all(clones.select(*key, "original")).join(
        made, left_on=["pid", "original"], right_on=key, how="inner", maintain_order="left"
    )
    executable = clones.select("pid", pl.col("graph_node") // _GRAPH).unique()
    captured = made.with_columns((pl.col("graph_node") // _GRAPH).alias("graph")).join(
        executable, left_on=["pid", "graph"], right_on=key, how="anti", maintain_order="left"
    )
    columns = ["graph_node", "pid", "tid", "time_ns"]
    return pl.concat([captured.select(columns), of_clones.select(columns)])


def _first_of_all(clones: pl.DataFrame) -> pl.DataFrame:
    """`clones` with the node of which all of a chain are copies as `original`; without those whose chain is a circle.

    A round doubles how far each reaches, so that a chain of any length that 32 bits number is followed to its end.
    """
    for _ in range(32):
        before = clones.rename({"graph_node": "original", "original": "earlier"})
        joined = clones.join(before, on=["pid", "original"], how="left", maintain_order="left")
        if joined["earlier"].null_count() == len(joined):
            return clones
        clones = joined.select("pid", "graph_node", pl.coalesce("earlier", "original").alias("original"))
    return clones.join(clones, left_on=["pid", "original"], right_on=["pid", "graph_node"], how="anti")
