"""Expectation files as strict JSON.

Whoever writes a bound should not have it ignored for a typing error: an unknown key is an error that names its nearest
valid one, a key may appear once, numbers are finite, and every claim is held against the registry of metrics. Keys
whose value may be null may be left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from ..traces.errors import InputError
from ..traces.run import nearest
from .metrics import METRICS, Metric
from .model import (
    ANY,
    SCHEMA,
    SOURCE_KINDS,
    Bound,
    Claim,
    ExpectationFile,
    MechanismClaim,
    Provenance,
    Source,
    TimeClaim,
)

LONGEST_TEXT: Final = 500
ID: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")

_SHARED: Final = ("type", "id", "workload", "variant", "size", "why", "source", "provenance")
_TIME: Final = (*_SHARED, "baseline", "ratio", "max_ms")
_MECHANISM: Final = (*_SHARED, "metric", "of", "stage", "against", "bound", "unit")


def parse(text: str, where: str) -> ExpectationFile:
    """The claims in `text`; `where` names the file in errors. Raises `InputError` for anything that is not exactly right."""
    fields = _Fields(_strict_json(text, where), where, ("schema", "hardware_key", "claims"))
    schema = fields.text("schema")
    if schema != SCHEMA:
        raise InputError(f"{where} has schema {schema!r}, not {SCHEMA!r}; write it for this version")
    key = fields.identifier("hardware_key")
    claims = fields.get("claims")
    if not isinstance(claims, list):
        fields.refuse("claims", "a list", claims)
    parsed = tuple(_claim(data, f"{where}: claims[{i}]", key) for i, data in enumerate(claims))
    refuse_twins(parsed, where)
    return ExpectationFile(key, parsed)


def refuse_twins(claims: Iterable[Claim], where: str) -> None:
    """Raise `InputError` if two claims share an id: one of them would hide behind the other."""
    seen = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{where}: two claims have the id {claim.id!r}; give each its own")
        seen.add(claim.id)


def _claim(data: Any, where: str, key: str) -> Claim:
    kind = data.get("type") if isinstance(data, dict) else None
    if isinstance(data, dict) and kind not in ("time", "mechanism"):
        raise InputError(f"{where}: type is {kind!r}; it must be 'time' or 'mechanism'")
    if kind == "time":
        return _time_claim(_Fields(data, where, _TIME), key)
    return _mechanism_claim(_Fields(data, where, _MECHANISM), key)


def _time_claim(fields: _Fields, key: str) -> TimeClaim:
    where = fields.where
    if key == ANY:
        raise InputError(f"{where}: a time holds on one machine; move the claim to expectations_<hardware_key>.json")
    if "size" not in fields.data:
        raise InputError(f"{where}: key 'size' is missing; times belong to one size (null where the workload has none)")
    variant, baseline = fields.text("variant"), fields.text("baseline")
    if variant == baseline:
        raise InputError(f"{where}: {variant!r} is compared with itself; name another baseline")
    ratio = _bound(fields, "ratio")
    if ratio.minimum is None or ratio.minimum <= 0:
        raise InputError(f"{where}.ratio: min must be a number above 0, the least speedup that is claimed")
    limits = _Fields(fields.get("max_ms"), f"{where}.max_ms", (baseline, variant))
    max_ms = {name: limits.number(name) for name in (baseline, variant)}
    for name, limit in max_ms.items():
        if limit <= 0:
            raise InputError(f"{where}.max_ms.{name} is {limit:g}; it must be above 0")
    source = _source(fields)
    return TimeClaim(
        id=fields.identifier("id"),
        workload=fields.text("workload"),
        variant=variant,
        baseline=baseline,
        size=fields.optional_text("size"),
        ratio=ratio,
        max_ms=max_ms,
        why=fields.text("why"),
        source=source,
        provenance=_provenance(fields, source),
    )


def _mechanism_claim(fields: _Fields, key: str) -> MechanismClaim:
    where = fields.where
    name = fields.text("metric")
    if name not in METRICS:
        raise InputError(f"{where}: no metric is called {name!r}{nearest(name, METRICS)}; see docs/verdicts.md")
    metric = METRICS[name]
    if key == ANY and not metric.machine_independent:
        raise InputError(
            f"{where}: {name} holds on one machine only; move the claim to expectations_<hardware_key>.json"
        )
    of, stage, against = (fields.optional_text(k) for k in ("of", "stage", "against"))
    _check_choice(where, name, metric, of)
    if (stage is None and metric.stage == "required") or (stage is not None and metric.stage == "never"):
        rule = "needs a stage" if stage is None else "takes no stage"
        raise InputError(f"{where}: {name} {rule}; {'add' if stage is None else 'remove'} the key 'stage'")
    variant, unit = fields.text("variant"), fields.text("unit")
    if against == variant:
        raise InputError(f"{where}: {variant!r} is compared with itself; name another variant in 'against'")
    right = metric.unit if against is None else "ratio"
    if unit != right:
        raise InputError(f"{where}: unit is {unit!r}, but this claim is in {right!r}")
    source = _source(fields)
    return MechanismClaim(
        id=fields.identifier("id"),
        workload=fields.text("workload"),
        variant=variant,
        metric=name,
        of=of,
        stage=stage,
        against=against,
        size=fields.optional_text("size"),
        bound=_bound(fields, "bound"),
        unit=unit,
        why=fields.text("why"),
        source=source,
        provenance=_provenance(fields, source),
    )


def _check_choice(where: str, name: str, metric: Metric, of: str | None) -> None:
    if of is None and metric.choices:
        raise InputError(f"{where}: {name} needs 'of', one of {', '.join(metric.choices)}")
    if of is not None and not metric.choices:
        raise InputError(f"{where}: {name} takes no 'of'; remove the key")
    if of is not None and of not in metric.choices:
        choices = ", ".join(metric.choices)
        raise InputError(f"{where}: {name} has no {of!r}{nearest(of, metric.choices)}; it has {choices}")


def _bound(fields: _Fields, key: str) -> Bound:
    inner = _Fields(fields.get(key), f"{fields.where}.{key}", ("min", "max"))
    bound = Bound(inner.optional_number("min"), inner.optional_number("max"))
    if bound.minimum is None and bound.maximum is None:
        raise InputError(f"{inner.where} bounds nothing; give min, max or both")
    if bound.minimum is not None and bound.maximum is not None and bound.minimum > bound.maximum:
        raise InputError(f"{inner.where}: min {bound.minimum:g} is above max {bound.maximum:g}")
    return bound


def _source(fields: _Fields) -> Source:
    inner = _Fields(fields.get("source"), f"{fields.where}.source", ("kind", "run", "text"))
    kind = inner.text("kind")
    if kind not in SOURCE_KINDS:
        raise InputError(f"{inner.where}: kind is {kind!r}{nearest(kind, SOURCE_KINDS)}; it is one of {SOURCE_KINDS}")
    run = inner.optional_text("run")
    if (kind == "measured") != (run is not None):
        need = "a measured bound names its 'run'" if run is None else f"a bound of kind {kind!r} comes from no run"
        raise InputError(f"{inner.where}: {need}")
    return Source(kind, run, inner.text("text"))


def _provenance(fields: _Fields, source: Source) -> Provenance | None:
    data = fields.data.get("provenance")
    if data is None:
        if source.kind == "measured":
            raise InputError(f"{fields.where}: a measured bound needs its 'provenance'")
        return None
    known = ("commit", "driver", "torch", "nsys", "rounds", "spread", "recorded_utc")
    inner = _Fields(data, f"{fields.where}.provenance", known)
    rounds, spread = inner.optional_number("rounds"), inner.optional_number("spread")
    if rounds is not None and (rounds < 0 or rounds != int(rounds)):
        raise InputError(f"{inner.where}: rounds is {rounds:g}; it is a whole number")
    found = Provenance(
        commit=inner.optional_text("commit"),
        driver=inner.optional_text("driver"),
        torch=inner.optional_text("torch"),
        nsys=inner.optional_text("nsys"),
        rounds=None if rounds is None else int(rounds),
        spread=spread,
        recorded_utc=inner.optional_text("recorded_utc"),
    )
    if source.kind == "measured" and (found.commit is None or found.recorded_utc is None):
        raise InputError(f"{inner.where}: a measured bound needs at least 'commit' and 'recorded_utc'")
    return found


class _Fields:
    """The keys of one JSON object, each fetched once with its type checked."""

    def __init__(self, data: Any, where: str, known: Iterable[str]) -> None:
        if not isinstance(data, dict):
            raise InputError(f"{where}: expected an object, found {_json_type(data)}")
        self.data: Mapping[str, Any] = data
        self.where = where
        for key in data:
            if key not in known:
                raise InputError(f"{where}: unknown key {key!r}{nearest(key, known)}")

    def get(self, key: str) -> Any:
        if key not in self.data:
            raise InputError(f"{self.where}: key {key!r} is missing")
        return self.data[key]

    def text(self, key: str) -> str:
        """Non-empty, at most `LONGEST_TEXT` characters, printable: verdicts repeat it on terminals."""
        value = self.get(key)
        if not isinstance(value, str):
            self.refuse(key, "text", value)
        if not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
            raise InputError(f"{self.where}: {key!r} must be 1 to {LONGEST_TEXT} printable characters on one line")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self.data.get(key) is None else self.text(key)

    def identifier(self, key: str) -> str:
        value = self.text(key)
        if not ID.fullmatch(value):
            raise InputError(f"{self.where}: {key!r} is {value!r}; write lower-case letters, digits, '_', '.', '-'")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InputError(f"{self.where}: {key!r} is not a finite number")
        return number

    def optional_number(self, key: str) -> float | None:
        return None if self.data.get(key) is None else self.number(key)

    def refuse(self, key: str, wanted: str, found: Any) -> NoReturn:
        raise InputError(f"{self.where}: {key!r} must be {wanted}, found {_json_type(found)}")


def _strict_json(text: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                raise InputError(f"{where}: key {key!r} appears twice in one object; keep one")
            out[key] = value
        return out

    def no_constant(name: str) -> NoReturn:
        raise InputError(f"{where}: {name} is no JSON number; a bound is finite, or null")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_constant)
    except RecursionError as exc:
        raise InputError(f"{where} nests too deeply to be an expectation file") from exc
    except ValueError as exc:  # also an integer of too many digits
        raise InputError(f"{where} is not JSON: {exc}") from exc


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
