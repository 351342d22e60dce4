"""JSON as the commands print and write it."""

from __future__ import annotations

import json
from typing import Any, Final

_CONTAINERS: Final = (dict, list, tuple)
_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=True).encode


def json_text(document: Any) -> str:
    """`document` as ASCII JSON in lines: each list or object of plain values, such as a table's row, takes one.

    So a row is found by `grep` and a difference shows whole rows, and the encoder of the standard library, which is in C
    only for one line, writes most of it: two thirds of the time of ``indent=1``.
    """
    lines: list[str] = []
    _write(document, "", lines)
    return "".join(lines)


def _write(value: Any, margin: str, out: list[str]) -> None:
    """Append the text of `value`, which begins in a line whose indentation is `margin`."""
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, _CONTAINERS) or not any(isinstance(m, _CONTAINERS) for m in members):
        out.append(_encode(value))
        return
    inner = f"{margin} "
    brackets = "{}" if isinstance(value, dict) else "[]"
    lead = f"{brackets[0]}\n{inner}"
    for key, member in value.items() if isinstance(value, dict) else enumerate(value):
        out.append(lead)
        if isinstance(value, dict):
            out.append(f"{_encode(str(key))}: ")
        _write(member, inner, out)
        lead = f",\n{inner}"
    out.append(f"\n{margin}{brackets[1]}")
