"""Expectation files as strict JSON.

Whoever writes a bound should not have it ignored for a typing error: an unknown key is an error that names its nearest
valid one, a key may appear once, numbers are finite, and every claim is held against the registry of metrics. Keys
whose value may be null may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...traces import documents
from ...traces.documents import EXPECTATIONS
from ...traces.errors import InputError
from ...traces.run import nearest
from ..metrics.registry import METRICS, Metric, cannot_fail
from ..model import (
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
from .strict import Fields

_SHARED: Final = ("type", "id", "workload", "variant", "size", "why", "source", "provenance")
_TIME: Final = (*_SHARED, "baseline", "ratio", "max_ms", "min_items_per_s")
_MECHANISM: Final = (*_SHARED, "metric", "of", "stage", "against", "bound", "unit")


def parse(text: str, where: str) -> ExpectationFile:
    """The claims in `text`; `where` names the file in errors. Raises `InputError` for anything that is not exactly right."""
    fields = Fields(documents.parse(text, EXPECTATIONS, where), where, ("schema", "hardware_key", "claims"))
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
        return _time_claim(Fields(data, where, _TIME), key)
    return _mechanism_claim(Fields(data, where, _MECHANISM), key)


def _time_claim(fields: Fields, key: str) -> TimeClaim:
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
    limits = Fields(fields.get("max_ms"), f"{where}.max_ms", (baseline, variant))
    max_ms = {name: limits.number(name) for name in (baseline, variant)}
    for name, limit in max_ms.items():
        if limit <= 0:
            raise InputError(f"{where}.max_ms.{name} is {limit:g}; it must be above 0")
    min_items_per_s: dict[str, float] = {}
    if fields.data.get("min_items_per_s") is not None:
        floors = Fields(fields.data["min_items_per_s"], f"{where}.min_items_per_s", (baseline, variant))
        min_items_per_s = {name: floors.number(name) for name in (baseline, variant) if name in floors.data}
        if not min_items_per_s:
            raise InputError(f"{floors.where} bounds nothing; name {baseline!r}, {variant!r} or both")
    for name, floor in min_items_per_s.items():
        if floor <= 0:
            raise InputError(f"{where}.min_items_per_s.{name} is {floor:g}; it must be above 0")
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
        min_items_per_s=min_items_per_s,
    )


def _mechanism_claim(fields: Fields, key: str) -> MechanismClaim:
    where = fields.where
    name, metric, of, stage, against = check_metric(fields)
    if key == ANY and not metric.machine_independent:
        raise InputError(
            f"{where}: {name} holds on one machine only; move the claim to expectations_<hardware_key>.json"
        )
    variant, unit = fields.text("variant"), fields.text("unit")
    right = metric.unit if against is None else "ratio"
    if unit != right:
        raise InputError(f"{where}: unit is {unit!r}, but this claim is in {right!r}")
    bound = _bound(fields, "bound")
    if cannot_fail(name, bound, unit):
        raise InputError(f"{where}.bound: every value of {name} is {bound}; give a bound that can be missed")
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
        bound=bound,
        unit=unit,
        why=fields.text("why"),
        source=source,
        provenance=_provenance(fields, source),
    )


def check_metric(fields: Fields) -> tuple[str, Metric, str | None, str | None, str | None]:
    """A claim's metric with its name, and its `of`, `stage` and `against`, held against the registry."""
    where, name = fields.where, fields.text("metric")
    if name not in METRICS:
        raise InputError(f"{where}: no metric is called {name!r}{nearest(name, METRICS)}; see docs/verdicts.md")
    metric = METRICS[name]
    of, stage, against = (fields.optional_text(k) for k in ("of", "stage", "against"))
    _check_choice(where, name, metric, of)
    if (stage is None and metric.stage == "required") or (stage is not None and metric.stage == "never"):
        rule = "needs a stage" if stage is None else "takes no stage"
        raise InputError(f"{where}: {name} {rule}; {'add' if stage is None else 'remove'} the key 'stage'")
    if against is not None and against == fields.text("variant"):
        raise InputError(f"{where}: {against!r} is compared with itself; name another variant in 'against'")
    return name, metric, of, stage, against


def _check_choice(where: str, name: str, metric: Metric, of: str | None) -> None:
    if of is None and metric.choices:
        raise InputError(f"{where}: {name} needs 'of', one of {', '.join(metric.choices)}")
    if of is not None and not metric.choices:
        raise InputError(f"{where}: {name} takes no 'of'; remove the key")
    if of is not None and of not in metric.choices:
        choices = ", ".join(metric.choices)
        raise InputError(f"{where}: {name} has no {of!r}{nearest(of, metric.choices)}; it has {choices}")


def _bound(fields: Fields, key: str) -> Bound:
    inner = Fields(fields.get(key), f"{fields.where}.{key}", ("min", "max"))
    bound = Bound(inner.optional_number("min"), inner.optional_number("max"))
    if bound.minimum is None and bound.maximum is None:
        raise InputError(f"{inner.where} bounds nothing; give min, max or both")
    if bound.minimum is not None and bound.maximum is not None and bound.minimum > bound.maximum:
        raise InputError(f"{inner.where}: min {bound.minimum:g} is above max {bound.maximum:g}")
    return bound


def _source(fields: Fields) -> Source:
    inner = Fields(fields.get("source"), f"{fields.where}.source", ("kind", "run", "text", "also"))
    kind = inner.text("kind")
    if kind not in SOURCE_KINDS:
        raise InputError(f"{inner.where}: kind is {kind!r}{nearest(kind, SOURCE_KINDS)}; it is one of {SOURCE_KINDS}")
    run = inner.optional_text("run")
    if (kind == "measured") != (run is not None):
        need = "a measured bound names its 'run'" if run is None else f"a bound of kind {kind!r} comes from no run"
        raise InputError(f"{inner.where}: {need}")
    also = inner.texts("also")
    if also and run is None:
        raise InputError(f"{inner.where}: 'also' names further runs, but a bound of kind {kind!r} comes from no run")
    return Source(kind, run, inner.text("text"), also)


def _provenance(fields: Fields, source: Source) -> Provenance | None:
    data = fields.data.get("provenance")
    if data is None:
        if source.kind == "measured":
            raise InputError(f"{fields.where}: a measured bound needs its 'provenance'")
        return None
    known = ("commit", "driver", "torch", "nsys", "rounds", "spread", "recorded_utc")
    inner = Fields(data, f"{fields.where}.provenance", known)
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
