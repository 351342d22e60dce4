"""Results as one table each, for a notebook: the rows that ``--json`` lists, as a polars frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import polars as pl

from ..analyze.headroom.predicted import Predicted
from ..analyze.result import Analysis
from ..expectations.comparing.compare import Compared
from ..expectations.judging.judged import Judged
from ..traces.errors import UsageError
from .documents.comparison import document as comparison_document
from .documents.headroom import document as headroom_document
from .documents.verdicts import document as verdicts_document

Rows = Iterable[Mapping[str, Any]]
Table = TypeVar("Table")


def frame(name: str, result: Analysis | Compared | Judged | Predicted) -> pl.DataFrame:
    """The table `name` of `result` as a polars frame; ``.to_pandas()`` turns it into pandas'.

    Of an analysis every table it has (``ledger``, ``overlap``, ``stages`` ...). Of a comparison ``stages``, ``terms``,
    ``reasons``, ``kernels`` and ``copies``, with the columns `base` and `opt`, the names of the sides. Of verdicts ``verdicts``,
    of predictions ``predictions``. Objects within a row are columns: ``interval.low``. Raises `UsageError` for a name that the
    result has no table of.
    """
    if isinstance(result, Analysis):
        return _named(name, result.tables())
    rows = [dict(_flat(row)) for row in _named(name, _rows(result))]
    made = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    parents = {column.rpartition(".")[0] for column in made.columns}
    return made.drop(
        parents & set(made.columns)
    )  # of objects that a row lacks; null in the columns of their parts, too


def _named(name: str, tables: Mapping[str, Table]) -> Table:
    if name not in tables:
        raise UsageError(f"there is no table {name[:80]!r}; there are {', '.join(tables)}")
    return tables[name]


def _rows(result: Any) -> Mapping[str, Rows]:
    """The lists that ``--json`` prints of `result`, by the names they go by here."""
    if isinstance(result, Compared):
        return {name: list(_of_comparison(comparison_document(result), name)) for name in _PLACES}
    if isinstance(result, Judged):
        return {"verdicts": verdicts_document(result)["verdicts"]}
    if isinstance(result, Predicted):
        return {"predictions": headroom_document(result)["predictions"]}
    raise UsageError(f"{type(result).__name__} has no tables; give what analyze, compare, check or predict returned")


_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "stages": ("stages",),
    "terms": ("terms",),
    "reasons": ("why", "reasons"),
    "kernels": ("kernels",),
    "copies": ("copies",),
}
"""Table of a comparison -> where its rows are in JSON."""


def _of_comparison(document: Mapping[str, Any], name: str) -> Rows:
    names = [side["name"] for side in document["sides"]]
    for one in document["comparisons"]:
        rows: Any = one
        for key in _PLACES[name]:
            rows = rows[key]
        for row in rows:
            yield {"base": names[one["base"]], "opt": names[one["opt"]], **row}


def _flat(row: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
