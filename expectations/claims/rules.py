"""How the parts of a claim, and the claims of a file, must fit together: each rule beside as much of it as JSON Schema can say.

A schema cannot compare two values of a document, so these are the reader's alone: names that repeat each other or must be the
same (`against`, `baseline`, the keys of `max_ms`), a lower end above an upper one, ids that appear twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ...traces.faults import nearest, refusal
from ..metrics.registry import METRICS, Metric, cannot_fail, greatest, unknown
from ..model import ANY, EARLIER, SCHEMA, Bound, Claim, MechanismClaim, TimeClaim
from ..strict import Fault, Rule

_NUMBER: Final = {"type": "number"}
_POSITIVE: Final = {"type": "number", "exclusiveMinimum": 0}
_TEXT: Final = {"type": "string"}
_NULL: Final = {"type": "null"}


# --- claims of both types


def _source_faults(claim: Claim) -> Iterator[Fault]:
    source, known = claim.source, claim.provenance
    if source.kind != "measured":
        if source.runs:
            yield ("source",), f"a bound of kind {source.kind!r} comes from no run; remove 'run' and 'also'"
        return
    if source.run is None:
        yield ("source",), "a measured bound names its 'run'"
    if known is None:
        yield (), "a measured bound needs its 'provenance'"
    elif known.commit is None or known.recorded_utc is None:
        yield ("provenance",), "a measured bound needs at least 'commit' and 'recorded_utc'"


def _holding(**keys: Any) -> dict[str, Any]:
    """The schema of an object that has these keys, each as its schema says."""
    return {"properties": keys, "required": list(keys)}


_SOURCE: Final = {
    "if": {"properties": {"source": {"properties": {"kind": {"const": "measured"}}}}},
    "then": _holding(
        source=_holding(run=_TEXT), provenance=_holding(commit=_TEXT, recorded_utc=_TEXT) | {"type": "object"}
    ),
    "else": {"properties": {"source": {"properties": {"run": _NULL, "also": {"maxItems": 0}}}}},
}


def _bound_faults(bound: Bound, key: str) -> Iterator[Fault]:
    if bound.minimum is None and bound.maximum is None:
        yield (key,), "bounds nothing; give min, max or both"
    elif bound.minimum is not None and bound.maximum is not None and bound.minimum > bound.maximum:
        yield (key,), f"min {bound.minimum:g} is above max {bound.maximum:g}"


# --- time claims


def _time_faults(claim: TimeClaim) -> Iterator[Fault]:
    yield from _source_faults(claim)
    if claim.predicted is not None and claim.source.kind != "model":
        yield ("source",), f"a bound of kind {claim.source.kind!r} comes from no prediction; remove 'predicted'"
    pair = (claim.baseline, claim.variant)
    if claim.variant == claim.baseline:
        yield (), f"{claim.variant!r} is compared with itself; name another baseline"
    yield from _bound_faults(claim.ratio, "ratio")
    if claim.ratio.minimum is None or claim.ratio.minimum <= 0:
        yield ("ratio",), "min must be a number above 0, the least speedup that is claimed"
    for key, names in (("max_ms", claim.max_ms), ("min_items_per_s", claim.min_items_per_s)):
        for name in names:
            if name not in pair:
                yield (key,), f"unknown key {name!r}{nearest(name, pair)}"


TIME: Final = Rule(
    _time_faults,
    _SOURCE
    | {
        "properties": {
            "ratio": _holding(min=_POSITIVE),
            "max_ms": {"maxProperties": 2},
            "min_items_per_s": {"maxProperties": 2},
        }
    },
)


# --- mechanism claims


def metric_faults(claim: Any) -> Iterator[Fault]:
    """What the registry of metrics says against `claim`: a `MechanismClaim`, or one that is wanted."""
    name, of, stage = claim.metric, claim.of, claim.stage
    if name not in METRICS:
        yield ("metric",), unknown(name)
        return
    metric = METRICS[name]
    choices = ", ".join(metric.choices)
    if of is None and choices:
        yield (), f"{name} needs 'of', one of {choices}"
    elif of is not None and not choices:
        yield (), f"{name} takes no 'of'; remove the key"
    elif of is not None and of not in metric.choices:
        yield ("of",), f"{name} has no {of!r}{nearest(of, metric.choices, f'it has {choices}')}"
    if stage is None and metric.stage == "required":
        yield (), f"{name} needs a stage; add the key 'stage'"
    elif stage is not None and metric.stage == "never":
        yield (), f"{name} takes no stage; remove the key 'stage'"
    if claim.against == claim.variant:
        yield ("against",), f"{claim.variant!r} is compared with itself; name another variant"


def _mechanism_faults(claim: MechanismClaim) -> Iterator[Fault]:
    yield from _source_faults(claim)
    yield from _bound_faults(claim.bound, "bound")
    told = list(metric_faults(claim))
    yield from told
    metric = METRICS.get(claim.metric)
    if metric is None:
        return
    right = metric.unit if claim.against is None else "ratio"
    if claim.unit != right:
        yield ("unit",), f"is {claim.unit!r}, but this claim is in {right!r}"
    elif claim.bound != Bound() and cannot_fail(claim.metric, claim.bound, claim.unit):
        yield ("bound",), f"every value of {claim.metric} is {claim.bound}; give a bound that can be missed"


def _can_fail(upper: dict[str, Any]) -> dict[str, Any]:
    """Of a bound: it has a least value above 0, which no metric is below of itself, or a greatest one like `upper`."""
    return {"anyOf": [_holding(min=_POSITIVE), _holding(max=upper)]}


def _shape(name: str, metric: Metric) -> dict[str, Any]:
    """What a claim on `metric` has to look like."""
    keys: dict[str, Any] = {"of": {"enum": list(metric.choices)} if metric.choices else _NULL}
    if metric.stage != "optional":
        keys["stage"] = _TEXT if metric.stage == "required" else _NULL
    absolute: dict[str, Any] = {"unit": {"const": metric.unit}}
    if (most := greatest(name, metric.unit)) is not None:
        absolute["bound"] = _can_fail(_NUMBER | {"exclusiveMaximum": most})
    needed = [key for key, rule in keys.items() if rule is not _NULL]
    return {"properties": keys, "required": needed, "if": _RELATIVE, "else": {"properties": absolute}}


_RELATIVE: Final = _holding(against=_TEXT)

MECHANISM: Final = Rule(
    _mechanism_faults,
    _SOURCE
    | {
        "properties": {"metric": {"enum": list(METRICS)}, "bound": _can_fail(_NUMBER)},
        "allOf": [
            {"if": _RELATIVE, "then": {"properties": {"unit": {"const": "ratio"}}}},
            *(
                {"if": {"properties": {"metric": {"const": name}}}, "then": _shape(name, metric)}
                for name, metric in METRICS.items()
            ),
        ],
    },
)


# --- files


def twins(ids: Iterable[str]) -> Iterator[Fault]:
    """Ids that several claims have: one of them would hide behind the other."""
    for twice in (one for one, times in Counter(ids).items() if times > 1):
        yield (), f"two claims have the id {twice!r}; give each its own"


def refuse_twins(claims: Iterable[Claim], where: str) -> None:
    """Raise `InputError` if two claims share an id."""
    if told := [("", words) for _, words in twins(claim.id for claim in claims)]:
        raise refusal(where, told)


def _file_faults(file: Any) -> Iterator[Fault]:
    yield from twins(claim.id for claim in file.claims)
    for i, claim in enumerate(file.claims if file.schema == EARLIER else ()):
        if isinstance(claim, TimeClaim) and claim.statistic is not None:
            yield (
                ("claims", i, "statistic"),
                f"is a key of {SCHEMA}; `aisp-trace expectations migrate` rewrites the file",
            )
    for i, claim in enumerate(file.claims if file.hardware_key == ANY else ()):
        if isinstance(claim, TimeClaim):
            yield ("claims", i), "a time holds on one machine; move the claim to expectations_<hardware_key>.json"
        elif not METRICS[claim.metric].machine_independent:
            yield (
                ("claims", i),
                f"{claim.metric} holds on one machine only; move it to expectations_<hardware_key>.json",
            )


def _each_claim(**keys: Any) -> dict[str, Any]:
    """The schema of a file in which each claim's keys are as said."""
    return {"properties": {"claims": {"items": {"properties": keys}}}}


_EVERYWHERE: Final = [name for name, metric in METRICS.items() if metric.machine_independent]

FILE: Final = Rule(
    _file_faults,
    {
        "allOf": [
            {
                "if": {"properties": {"hardware_key": {"const": ANY}}},
                "then": _each_claim(type={"const": "mechanism"}, metric={"enum": _EVERYWHERE}),
            },
            {"if": {"properties": {"schema": {"const": EARLIER}}}, "then": _each_claim(statistic=_NULL)},
        ]
    },
)
