"""The JSON Schema of an expectation file, made from the model and the registry of metrics.

    expectations/expectations.schema.json      draft 2020-12, for editors and other programs

`parse` is the authority: it names the nearest valid key, and checks what a schema cannot say (names that repeat each other,
repeated keys and ids, a lower end above an upper one). A test holds the committed file, this module and the parser together.
``aisp-trace expectations schema`` prints it.
"""

from __future__ import annotations

from typing import Any, Final

from ...traces.content import KEY
from ..metrics.registry import METRICS, Metric, greatest
from ..model import ANY, SCHEMA, SOURCE_KINDS
from .strict import LONGEST_TEXT

FILE: Final = "expectations.schema.json"

_TEXT: Final = {"$ref": "#/$defs/text"}
_NUMBER: Final = {"type": "number"}
_POSITIVE: Final = {"type": "number", "exclusiveMinimum": 0}


def schema() -> dict[str, Any]:
    """The schema as plain JSON."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aisp-trace expectations",
        "description": "Claims written down before the run that they judge; see docs/verdicts.md.",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "hardware_key": {"$ref": "#/$defs/identifier"},
                "claims": {"type": "array", "items": {"$ref": "#/$defs/claim"}},
            },
            ("schema", "hardware_key", "claims"),
        ),
        "if": {"properties": {"hardware_key": {"const": ANY}}},
        "then": {"properties": {"claims": {"items": {"$ref": "#/$defs/claim_of_any_machine"}}}},
        "$defs": _definitions(),
    }


def _definitions() -> dict[str, Any]:
    return {
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_TEXT,
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        },
        "identifier": {"type": "string", "pattern": f"^{KEY.pattern}$"},
        "claim": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": ["time", "mechanism"]}},
            "if": {"properties": {"type": {"const": "time"}}},
            "then": {"$ref": "#/$defs/time"},
            "else": {"$ref": "#/$defs/mechanism"},
        },
        "claim_of_any_machine": {
            "properties": {
                "type": {"const": "mechanism"},
                "metric": {"enum": [name for name, metric in METRICS.items() if metric.machine_independent]},
            }
        },
        "bound": {
            **_object({"min": _or_null(_NUMBER), "max": _or_null(_NUMBER)}, ()),
            "anyOf": [{"properties": {end: _NUMBER}, "required": [end]} for end in ("min", "max")],
        },
        "can_fail": _can_fail(_NUMBER),
        "can_fail_as_a_fraction": _can_fail({"type": "number", "exclusiveMaximum": 1}),
        "source": {
            **_object(
                {
                    "kind": {"enum": list(SOURCE_KINDS)},
                    "run": _or_null(_TEXT),
                    "text": _TEXT,
                    "also": _or_null({"description": "earlier runs", "type": "array", "items": _TEXT}),
                },
                ("kind", "text"),
            ),
            "if": {"properties": {"kind": {"const": "measured"}}},
            "then": {"properties": {"run": _TEXT}, "required": ["run"]},
            "else": {"properties": {"run": {"type": "null"}, "also": _or_null({"type": "array", "maxItems": 0})}},
        },
        "provenance": _object(
            {
                **{key: _or_null(_TEXT) for key in ("commit", "driver", "torch", "nsys")},
                "rounds": _or_null({"type": "integer", "minimum": 0}),
                "spread": _or_null(_NUMBER),
                "recorded_utc": _or_null(_TEXT),
            },
            (),
        ),
        "time": _time(),
        "mechanism": _mechanism(),
    }


def _time() -> dict[str, Any]:
    properties = {
        **_shared("time"),
        "baseline": _TEXT,
        "ratio": {
            "description": "time of baseline / time of variant; above max is better than expected",
            "allOf": [{"$ref": "#/$defs/bound"}],
            "properties": {"min": _POSITIVE},
            "required": ["min"],
        },
        "max_ms": {
            "description": "most milliseconds of one iteration, for baseline and variant",
            "type": "object",
            "minProperties": 2,
            "maxProperties": 2,
            "additionalProperties": _POSITIVE,
        },
        "min_items_per_s": _or_null(
            {
                "description": "least required items per second, for baseline, variant or both",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 2,
                "additionalProperties": _POSITIVE,
            }
        ),
    }
    required = ("type", "id", "workload", "variant", "size", "why", "source", "baseline", "ratio", "max_ms")
    return _object(properties, required) | _measured_needs_provenance()


def _mechanism() -> dict[str, Any]:
    properties = {
        **_shared("mechanism"),
        "metric": {"enum": list(METRICS)},
        "of": _or_null(_TEXT),
        "stage": _or_null(_TEXT),
        "against": _or_null(_TEXT),
        "bound": {"allOf": [{"$ref": "#/$defs/bound"}, {"$ref": "#/$defs/can_fail"}]},
        "unit": _TEXT,
    }
    required = ("type", "id", "workload", "variant", "why", "source", "metric", "bound", "unit")
    rules = [
        {"if": {"properties": {"metric": {"const": name}}}, "then": _rules_of(name, metric)}
        for name, metric in METRICS.items()
    ]
    relative = {
        "if": {"properties": {"against": _TEXT}, "required": ["against"]},
        "then": {"properties": {"unit": {"const": "ratio"}}},
    }
    return _object(properties, required) | _measured_needs_provenance() | {"allOf": [*rules, relative]}


def _can_fail(upper: dict[str, Any]) -> dict[str, Any]:
    """Of a bound: it has a least value above 0, which no metric is below of itself, or a greatest one like `upper`."""
    ends = {"min": _POSITIVE, "max": upper}
    return {"anyOf": [{"properties": {end: rule}, "required": [end]} for end, rule in ends.items()]}


def _rules_of(name: str, metric: Metric) -> dict[str, Any]:
    """What a claim on `metric` has to look like."""
    properties: dict[str, Any] = {"unit": {"enum": [metric.unit, "ratio"]}}
    required = []
    if metric.choices:
        properties["of"] = {"enum": list(metric.choices)}
        required.append("of")
    else:
        properties["of"] = {"type": "null"}
    if metric.stage == "required":
        properties["stage"] = _TEXT
        required.append("stage")
    if metric.stage == "never":
        properties["stage"] = {"type": "null"}
    alone = {"not": {"properties": {"against": _TEXT}, "required": ["against"]}}
    own: dict[str, Any] = {"unit": {"const": metric.unit}}
    if greatest(name, metric.unit) is not None:
        own["bound"] = {"$ref": "#/$defs/can_fail_as_a_fraction"}
    absolute = {"if": alone, "then": {"properties": own}}
    return {"properties": properties, **({"required": required} if required else {}), **absolute}


def _shared(kind: str) -> dict[str, Any]:
    return {
        "type": {"const": kind},
        "id": {"$ref": "#/$defs/identifier"},
        "workload": _TEXT,
        "variant": _TEXT,
        "size": _or_null(_TEXT),
        "why": _TEXT,
        "source": {"$ref": "#/$defs/source"},
        "provenance": _or_null({"$ref": "#/$defs/provenance"}),
    }


def _measured_needs_provenance() -> dict[str, Any]:
    known = {"properties": {"commit": _TEXT, "recorded_utc": _TEXT}, "required": ["commit", "recorded_utc"]}
    return {
        "if": {"properties": {"source": {"properties": {"kind": {"const": "measured"}}}}},
        "then": {"properties": {"provenance": {"type": "object", **known}}, "required": ["provenance"]},
    }


def _object(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    out = {"type": "object", "properties": properties, "additionalProperties": False}
    return out | {"required": list(required)} if required else out


def _or_null(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "null"}]}
