"""The end of a sentence on an unknown word: the nearest known one as a question, and what else there is to say."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from aisp_trace.traces.faults import nearest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("analyze", "capture", "cli", "expectations", "kernels", "report", "scripts", "traces", "workloads")


@pytest.mark.parametrize(
    ("word", "also", "said"),
    [
        ("driva", "", "; did you mean 'driver'?"),
        ("driva", "it has driver, key", "; did you mean 'driver'? It has driver, key"),
        ("driva", "`aisp-trace list` shows both", "; did you mean 'driver'? `aisp-trace list` shows both"),
        ("zzz", "it has driver, key", "; it has driver, key"),
        ("zzz", "", ""),
        ("KEY", "", "; did you mean 'key'?"),
    ],
)
def test_what_is_told_beside_a_near_word_begins_a_sentence(word: str, also: str, said: str) -> None:
    assert nearest(word, ("driver", "key"), also) == said


def test_no_sentence_goes_on_behind_the_question_mark() -> None:
    """Text behind a call of `nearest` would read ``did you mean 'x'?; it has ...``: `also` is the place for it."""
    calls, goes_on = 0, []
    for file in (f for folder in CODE for f in (ROOT / folder).rglob("*.py")):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if "nearest(" in text else ():
            if not isinstance(node, ast.JoinedStr):
                continue
            for place, part in enumerate(node.values):
                inner = part.value if isinstance(part, ast.FormattedValue) else None
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "nearest":
                    calls += 1
                    if place + 1 < len(node.values):
                        goes_on.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert calls > 8
    assert goes_on == []
