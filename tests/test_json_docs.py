"""Every key that a command prints with ``--json`` stands in the section of docs/json.md that names the document's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from aisp_trace.cli.main import main

ROOT: Final = Path(__file__).parent.parent
SAMPLES: Final = ROOT / "traces" / "samples"
RUN: Final = SAMPLES / "h200_pipeline_sequential"

OPEN: Final = {"by_kind", "overlap", "trust", "variant_needs", "changes", "kernels", "by_category_ns"}
"""Objects whose own keys are kinds, pairs, metrics or variants: words of the data, not of the document."""


def sections() -> dict[str, set[str]]:
    """The words of each section by the schemas that its heading names."""
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        words = set(re.findall(r"\w+", section))
        found |= dict.fromkeys(re.findall(r"`aisp-trace/([a-z-]+/\d+)`", section.splitlines()[0]), words)
    return found


def keys(value: Any, named: bool = True) -> Iterator[str]:
    """Every key in `value`, however deep, except those of objects that are `OPEN`."""
    if isinstance(value, list):
        for item in value:
            yield from keys(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if named:
                yield key
            yield from keys(item, key not in OPEN)


def test_keys_are_found_where_they_are() -> None:
    document = {"a": [{"b": 1}], "overlap": {"copy|compute": {"c": {"d": 2}}}}
    assert list(keys(document)) == ["a", "b", "overlap", "c", "d"]


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("analyze", SAMPLES / "h200x2_ddp.sqlite.xz"),
        ("compare", RUN),
        ("predict", f"{RUN}:baseline", "--change", "syncs", "--change", "allocator"),
        ("check", RUN, "--expectations", ROOT / "expectations"),
        ("expectations", "validate"),
        ("ranks", SAMPLES / "h200x2_ddp.sqlite.xz"),
    ],
    ids=lambda words: str(words[0]),
)
def test_what_is_printed_is_documented(
    words: tuple[object, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, words), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    schema = document["schema"].removeprefix("aisp-trace/")
    assert schema in sections(), f"docs/json.md has no section of {schema}"
    missing = sorted(set(keys(document)) - sections()[schema])
    assert not missing, f"docs/json.md names no {', '.join(missing)} in the section of {schema}"
