"""Documents that people write, read through models of pydantic; faults are worded by this project.

A model is a frozen dataclass. Its annotations say what each key holds, `Rule` what they cannot; values, faults and JSON Schema
come from these. Values that code makes are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Final, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    Strict,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from ..traces import documents
from ..traces.content import KEY
from ..traces.errors import InputError
from ..traces.faults import found, nearest, refusal


class Document:
    """A model's base: no unknown key, no infinity.

    Pydantic's own strict mode would want tuples and instances where JSON has lists and objects; numbers are strict by their types
    below, and of JSON nothing else is converted.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)


LONGEST_TEXT: Final = 500

Fault = tuple[tuple[str | int, ...], str]
"""Where below a value, and what is wrong there, as a sentence."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Rule:
    """What a value must be besides its type: `faults` finds what is wrong, `schema` is as much of it as JSON Schema can say.

    A value whose parts are wrong is not asked: its rule may rely on them.
    """

    faults: Callable[[Any], Iterable[Fault]]
    schema: Mapping[str, Any] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(core), **self.schema}

    def _checked(self, value: T) -> T:
        told = [
            InitErrorDetails(type=PydanticCustomError("rule", "{words}", {"words": words}), loc=loc, input=value)
            for loc, words in self.faults(value)
        ]
        if told:
            raise ValidationError.from_exception_data("", told)
        return value


def _text_faults(value: str) -> Iterable[Fault]:
    if not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        yield (), f"must be 1 to {LONGEST_TEXT} printable characters on one line"


def _identifier_faults(value: str) -> Iterable[Fault]:
    if not KEY.fullmatch(value):
        yield (), f"{value[:80]!r} names files; write lower-case letters, digits, '_', '.', '-'"


Text = Annotated[
    str,
    Rule(_text_faults, {"minLength": 1, "maxLength": LONGEST_TEXT, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}),
]
"""Verdicts repeat it on terminals."""

Number = Annotated[float, Strict(), PlainSerializer(lambda v: int(v) if v % 1 == 0 and abs(v) < 2**53 else v)]
"""Written as people write it: 25, not 25.0."""

Positive = Annotated[Number, Field(gt=0)]

WholeNumber = Annotated[
    int, Strict(), Field(ge=0), BeforeValidator(lambda v: int(v) if isinstance(v, float) and v % 1 == 0 else v)
]
"""To JSON Schema, 8.0 is an integer."""

Identifier = Annotated[str, Rule(_identifier_faults, {"pattern": f"^{KEY.pattern}$"})]
"""A hardware key or a claim's id."""


def null_is(empty: Any, kind: Any) -> WrapValidator:
    """For a key of type `kind`: null reads as `empty`."""
    return WrapValidator(
        lambda value, inner: empty if value is None else inner(value), json_schema_input_type=kind | None
    )


def read(adapter: TypeAdapter[T], text: str, schema: str, where: str, *earlier: str) -> T:
    """The document `text`, whose ``schema`` must be `schema` or one of the `earlier` ones; `where` names it in errors.

    Raises `InputError` for what is no strict JSON (``traces/documents.py``), else one that tells every fault.
    """
    data = documents.parse(text, documents.EXPECTATIONS, where)
    said = data.get("schema", schema) if isinstance(data, dict) else schema
    if said not in (schema, *earlier):
        raise InputError(f"{where} has schema {str(said)[:80]!r}, not {schema!r}; write it for this version")
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        made = json_schema(adapter)
        raise refusal(where, [_told(one, made) for one in error.errors()]) from None


class _Plain(GenerateJsonSchema):
    """JSON Schema without a title for every key; a key that can hold one word only must be there."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        inner = field["schema"]
        word = inner["type"] == "default" and inner["schema"]["type"] == "literal"
        return (word and len(inner["schema"]["expected"]) == 1) or super().field_is_required(field, total)


@cache
def json_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """What `adapter` reads, as JSON Schema."""
    made = adapter.json_schema(schema_generator=_Plain)
    if "$ref" in made:  # the document itself, which has a rule
        made |= made["$defs"].pop(made.pop("$ref").rpartition("/")[2])
    return made


_EXPECTED: Final = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "tuple_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
    "model_attributes_type": "an object",
}


def _told(error: Any, schema: Mapping[str, Any]) -> tuple[str, str]:
    """The path and sentence of an error of pydantic's."""
    kind, loc, value, context = error["type"], error["loc"], error["input"], error.get("ctx", {})
    path, there = _place(loc, schema)
    above, holder = _place(loc[:-1], schema)
    if kind == "rule":
        return path, context["words"]
    if kind in _EXPECTED:
        what = f"{value:g}" if kind == "int_type" and isinstance(value, float) else found(value)
        return path, f"expected {_EXPECTED[kind]}, found {what}"
    if kind == "missing":
        about = there.get("description")
        return above, f"key {loc[-1]!r} is missing{f' ({about})' if about else ''}"
    if kind == "unexpected_keyword_argument":
        return above, f"unknown key {loc[-1]!r}{nearest(loc[-1], holder['properties'])}"
    if kind == "union_tag_not_found":
        return path, f"key 'type' is missing; it must be {_any_of(there['discriminator']['mapping'])}"
    if kind == "union_tag_invalid":
        return path, f"type {_not_any_of(value['type'], there['discriminator']['mapping'])}"
    if kind == "literal_error":
        return path, _not_any_of(value, there.get("enum") or [there["const"]])
    if kind == "too_short":
        return path, "is empty; leave the key out, or write what belongs there"
    if kind == "greater_than":
        return path, f"is {value:g}; it must be above {context['gt']:g}"
    if kind == "greater_than_equal":
        return path, f"is {value:g}; it must be at least {context['ge']:g}"
    return path, error["msg"]


def _any_of(words: Iterable[str]) -> str:
    return " or ".join(map(repr, words))


def _not_any_of(value: Any, words: Iterable[str]) -> str:
    remedy = f"it must be {_any_of(words)}"
    if not isinstance(value, str):
        return f"is {found(value)}; {remedy}"
    return f"is {value[:80]!r}{nearest(value, words, remedy)}"


def _place(loc: tuple[str | int, ...], schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """`loc` as a path, ``claims[3].bound.min``, and the part of `schema` about it."""
    path, node = "", schema
    for step in loc:
        node = _resolved(node, schema)
        if step in node.get("discriminator", {}).get("mapping", {}):
            node = {"$ref": node["discriminator"]["mapping"][step]}
        elif isinstance(step, int):
            path, node = f"{path}[{step}]", node.get("items", {})
        else:
            path, node = f"{path}.{step}", node.get("properties", {}).get(step) or {}
    return path.lstrip("."), _resolved(node, schema)


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """`node` without the choice of null; a reference with what it leads to."""
    if "type" not in node and "anyOf" in node and "$ref" not in node:
        node = next(choice for choice in node["anyOf"] if choice.get("type") != "null")
    if "$ref" in node:
        return {**schema["$defs"][node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}
    return node
