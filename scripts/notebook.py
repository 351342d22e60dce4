"""Run examples/notebook.ipynb and hold its outputs against what the code gives now, or write them.

python -P scripts/notebook.py --check|--write

The cells run here, in one namespace and in the notebook's folder, as a kernel would run them, and the value of a cell's last line
is asked for the same representations (docs/decisions.md says why there is no kernel).
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

NOTEBOOK: Final = Path(__file__).resolve().parents[1] / "examples" / "notebook.ipynb"


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """`notebook` with the outputs that its cells give; raises what a cell raises."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, number = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell = {**cell, "execution_count": number, "outputs": outputs("".join(cell["source"]), names, number)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """What the cell `source` prints, and its last line's value, in the notebook format 4.5 (nbformat.readthedocs.io)."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    made: list[dict[str, Any]] = []
    if printed.getvalue():
        made.append({"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())})
    if value is not None:
        data = {kind: lines(text) if isinstance(text, str) else text for kind, text in bundle(value).items()}
        made.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return made


def bundle(value: Any) -> dict[str, Any]:
    """The representations that IPython would ask `value` for."""
    own = getattr(value, "_repr_mimebundle_", None)
    if own is not None:
        found: dict[str, Any] = json.loads(json.dumps(own()))
        return found
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    return {**({} if html is None else {"text/html": html}), "text/plain": repr(value)}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> int:
    """Compare the notebook's outputs with those of now, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="leave 1 if an output is out of date")
    what.add_argument("--write", action="store_true", help="write the outputs")
    asked = parser.parse_args()
    now = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    os.chdir(NOTEBOOK.parent)
    made = executed(now)
    old = [cell["execution_count"] for cell, kept in zip(made["cells"], now["cells"], strict=True) if cell != kept]
    if asked.write:
        NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if old:
            print(f"wrote the outputs of cells {old}")
        return 0
    if old:
        print(
            f"outputs of cells {old} are out of date; refresh them: python -P scripts/notebook.py --write",
            file=sys.stderr,
        )
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
