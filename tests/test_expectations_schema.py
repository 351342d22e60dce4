"""The JSON Schema says what the strict parser does: what one of them refuses for its form, so does the other.

The validator below knows exactly the keywords that the schema uses, so that no library is needed; where `jsonschema` is
installed, it must give the same answers.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.claims.load import PACKAGE_DIR, PATTERN
from aisp_trace.expectations.claims.parse import SCHEMA_FILE as FILE
from aisp_trace.expectations.claims.parse import parse, schema
from aisp_trace.expectations.metrics.registry import METRICS
from aisp_trace.expectations.model import ANY
from aisp_trace.tests.test_expectations_files import MECHANISM, REFUSED, TIME, changed, text
from aisp_trace.traces.errors import InputError

SCHEMA = schema()
FULL_TIME = {**TIME, "min_items_per_s": {"optimized": 5}, "source": {**TIME["source"], "also": ["pipeline-00"]}}

BEYOND_A_SCHEMA = (
    "is compared with itself",
    "is above max",
    "did you mean 'optimized'",  # a name that is another key's value
    "does not fit 64 bits",  # JSON has no largest number
)
"""What no schema can say: how two values relate."""


def valid(instance: Any, rule: Any = SCHEMA) -> bool:
    """Whether `instance` is valid, by the keywords of draft 2020-12 that the schema uses; others are an error here."""
    if rule is True or rule is False:
        return bool(rule)
    return all(_KEYWORDS[keyword](instance, value, rule) for keyword, value in rule.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: dict[str, Any] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": _is_number,
    "integer": lambda v: _is_number(v) and v == int(v),
    "null": lambda v: v is None,
}


def _reference(instance: Any, name: str, rule: Any) -> bool:
    return valid(instance, SCHEMA["$defs"][name.removeprefix("#/$defs/")])


def _extra(instance: Any, value: Any, rule: Any) -> bool:
    others = (
        [v for k, v in instance.items() if k not in rule.get("properties", {})] if isinstance(instance, dict) else []
    )
    return all(valid(v, value) for v in others)


_KEYWORDS: dict[str, Any] = {
    "$schema": lambda i, v, r: v == "https://json-schema.org/draft/2020-12/schema",
    "title": lambda i, v, r: True,
    "description": lambda i, v, r: True,
    "default": lambda i, v, r: True,
    "discriminator": lambda i, v, r: True,  # OpenAPI's: says which of `oneOf` it is, and refuses nothing
    "$defs": lambda i, v, r: True,
    "$ref": _reference,
    "type": lambda i, v, r: _TYPES[v](i),
    "const": lambda i, v, r: i == v and not isinstance(i, bool),
    "enum": lambda i, v, r: i in v,
    "properties": lambda i, v, r: not isinstance(i, dict) or all(valid(i[k], s) for k, s in v.items() if k in i),
    "required": lambda i, v, r: not isinstance(i, dict) or all(k in i for k in v),
    "additionalProperties": _extra,
    "items": lambda i, v, r: not isinstance(i, list) or all(valid(x, v) for x in i),
    "anyOf": lambda i, v, r: any(valid(i, s) for s in v),
    "oneOf": lambda i, v, r: sum(valid(i, s) for s in v) == 1,
    "allOf": lambda i, v, r: all(valid(i, s) for s in v),
    "not": lambda i, v, r: not valid(i, v),
    "if": lambda i, v, r: valid(i, r.get("then", True)) if valid(i, v) else valid(i, r.get("else", True)),
    "then": lambda i, v, r: True,
    "else": lambda i, v, r: True,
    "pattern": lambda i, v, r: not isinstance(i, str) or re.search(v, i) is not None,
    "maxItems": lambda i, v, r: not isinstance(i, list) or len(i) <= v,
    "minLength": lambda i, v, r: not isinstance(i, str) or len(i) >= v,
    "maxLength": lambda i, v, r: not isinstance(i, str) or len(i) <= v,
    "minimum": lambda i, v, r: not _is_number(i) or i >= v,
    "exclusiveMinimum": lambda i, v, r: not _is_number(i) or i > v,
    "exclusiveMaximum": lambda i, v, r: not _is_number(i) or i < v,
    "minProperties": lambda i, v, r: not isinstance(i, dict) or len(i) >= v,
    "maxProperties": lambda i, v, r: not isinstance(i, dict) or len(i) <= v,
}


def document(*claims: dict[str, Any], key: str = "h100") -> Any:
    return json.loads(text(*claims, key=key))


def parses(instance: Any) -> str:
    """Empty if the strict parser takes it, else what it says."""
    try:
        parse(json.dumps(instance), "f")
    except InputError as exc:
        return str(exc)
    return ""


def test_the_committed_schema_is_the_one_that_is_made() -> None:
    assert json.loads((PACKAGE_DIR / FILE).read_text(encoding="utf-8")) == SCHEMA, "`make generated` refreshes it"


@pytest.mark.parametrize("file", sorted(PACKAGE_DIR.glob(PATTERN)), ids=lambda p: p.name)
def test_every_committed_file_is_valid(file: Path) -> None:
    assert valid(json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("claim", [MECHANISM, TIME, FULL_TIME], ids=["mechanism", "time", "throughput"])
def test_right_claims_are_valid(claim: dict[str, Any]) -> None:
    assert parses(document(claim)) == ""
    assert valid(document(claim))


@pytest.mark.parametrize(
    ("claim", "path", "value", "words"), REFUSED, ids=[f"{p}={v!r}"[:50] for _, p, v, _ in REFUSED]
)
def test_what_the_parser_refuses_the_schema_refuses(claim: dict[str, Any], path: str, value: Any, words: str) -> None:
    wrong = json.loads(text(changed(claim, path, value)))
    assert parses(wrong)
    assert not valid(wrong) or any(w in words for w in BEYOND_A_SCHEMA)


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inner for p in every_path(v, (*path, k)))]


FULL = document(FULL_TIME, {**MECHANISM, "stage": "h2d"})
REPLACEMENTS: tuple[Any, ...] = (None, True, "", "x", "x" * 501, -1, 0, 1.5, [], {}, {"min": 1}, ["x"], {"zzz": 1})


@pytest.mark.parametrize("path", every_path(FULL), ids=lambda p: ".".join(map(str, p)))
def test_any_one_change_is_seen_alike(path: tuple[Any, ...]) -> None:
    """Every value of a full file is replaced, removed, and given an unknown key: parser and schema agree on each."""
    for mutant in mutants(path):
        said = parses(mutant)
        assert "nput should" not in said, "pydantic's words"
        if any(words in said for words in BEYOND_A_SCHEMA):
            continue
        # 'variant' renamed alone: the names below max_ms belong to another key's value
        if "max_ms: key" in said or "max_ms: unknown" in said or "min_items_per_s: unknown" in said:
            continue
        assert valid(mutant) == (not said), (mutant, said)


def mutants(path: tuple[Any, ...]) -> list[Any]:
    found = []
    for value in REPLACEMENTS:
        made: Any = {"": copy.deepcopy(FULL)}
        holder = made
        for key in ("", *path)[:-1]:
            holder = holder[key]
        holder[("", *path)[-1]] = value
        found.append(made[""])
    if path:
        made = copy.deepcopy(FULL)
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict):
            del holder[path[-1]]
            found.append(made)
            extra = copy.deepcopy(FULL)
            holder = extra
            for key in path[:-1]:
                holder = holder[key]
            holder["zzz"] = 1
            found.append(extra)
    return found


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("key", ["h100", ANY])
def test_each_metrics_rules_are_the_parsers(name: str, key: str) -> None:
    metric = METRICS[name]
    for of in (None, *metric.choices[:1], "nonsense"):
        for stage in (None, "h2d"):
            for against in (None, "baseline"):
                for unit in (metric.unit, "ratio", "furlong"):
                    claim = {**MECHANISM, "metric": name, "of": of, "stage": stage, "against": against, "unit": unit}
                    wrong = document(claim, key=key)
                    assert valid(wrong) == (not parses(wrong)), (claim, parses(wrong))


def test_a_time_is_not_valid_for_every_machine() -> None:
    assert not valid(document(TIME, key=ANY))
    assert valid(document(MECHANISM, key=ANY))


def test_another_implementation_agrees() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    other = jsonschema.Draft202012Validator(SCHEMA)
    for path in every_path(FULL):
        for mutant in mutants(path):
            assert other.is_valid(mutant) == valid(mutant), mutant
