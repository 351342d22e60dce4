"""What was recorded of a stage whose name is folded: `step #` is `step 0`, `step 1`, `step 2` ..."""

from __future__ import annotations

import numpy as np
import polars as pl

from ...traces.model import distinct_values
from ..attribution.bounded import OTHERS
from ..attribution.selection import Selected
from ..attribution.stages import Stages, is_word
from ..intervals import Ints
from ..result import SCHEMAS


def stage_names(found: Stages, stages: Stages, shown: Ints, limits: tuple[int, int] | None) -> pl.DataFrame:
    """Table ``stage_names``: of the `stages` to list (`shown`), those that are not called what `found`, all ranges of the
    domain, says; ``host_ns`` counts only what lies within the `limits`, if given.
    """
    source = (stages.source if isinstance(stages, Selected) else np.arange(len(stages)))[shown]
    recorded = found.names.gather(source)
    other = (recorded.cast(pl.String) != stages.names.gather(shown).cast(pl.String)).to_numpy()
    other &= ~is_word(stages.names, OTHERS)[shown]
    rows = shown[other]
    if len(rows) == 0:
        return pl.DataFrame(schema=SCHEMAS["stage_names"])
    start, end = stages.start_ns[rows], stages.end_ns[rows]
    if limits is not None:
        start, end = np.clip(start, *limits), np.clip(end, *limits)
    table = pl.DataFrame(
        {
            "path_id": stages.path_id[rows],
            "code": recorded.to_physical().to_numpy()[other],
            "host_ns": end - start,
            "first_start_ns": stages.start_ns[rows],
        }
    )
    table = table.group_by("path_id", "code").agg(
        pl.len().cast(pl.Int64).alias("instances"), pl.col("host_ns").sum(), pl.col("first_start_ns").min()
    )
    words = distinct_values(found.names)
    return (
        table.with_columns(
            pl.Series("path", [stages.paths[i] for i in table["path_id"].to_list()], dtype=pl.String),
            pl.Series("name", [words[i] for i in table["code"].to_list()], dtype=pl.String),
        )
        .sort("path", "first_start_ns", "name")
        .select(*SCHEMAS["stage_names"])
    )
