"""Expectation files: each thing that is refused, with the words that say why, and which folder is used."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.expectations.claims.load import PACKAGE_DIR, load_expectations
from aisp_trace.expectations.claims.parse import parse
from aisp_trace.expectations.claims.wanted import SCHEMA as WANTED_SCHEMA
from aisp_trace.expectations.claims.wanted import parse_wanted
from aisp_trace.expectations.claims.write import claim_document
from aisp_trace.expectations.judging.judge import judge
from aisp_trace.expectations.judging.verdict import STATUSES
from aisp_trace.expectations.metrics.registry import METRICS
from aisp_trace.expectations.model import ANY, Bound, ExpectationFile, MechanismClaim, TimeClaim
from aisp_trace.tests.judging.build import evidence
from aisp_trace.traces.errors import InputError

MECHANISM: dict[str, Any] = {
    "type": "mechanism",
    "id": "pipeline.hidden",
    "workload": "pipeline",
    "variant": "optimized",
    "metric": "overlap.efficiency",
    "of": "copy|compute",
    "bound": {"min": 0.5},
    "unit": "fraction",
    "why": "copies run under compute",
    "source": {"kind": "definition", "text": "by construction"},
}
TIME: dict[str, Any] = {
    "type": "time",
    "id": "pipeline.faster",
    "workload": "pipeline",
    "variant": "optimized",
    "baseline": "baseline",
    "size": "default",
    "ratio": {"min": 1.5, "max": 2.5},
    "max_ms": {"baseline": 25, "optimized": 12.5},
    "why": "copies are hidden",
    "source": {"kind": "measured", "run": "pipeline-0", "text": "median of 8 rounds"},
    "provenance": {"commit": "abc1234", "rounds": 8, "spread": 0.01, "recorded_utc": "2026-01-01T00:00:00Z"},
}


def text(*claims: dict[str, Any], key: str = "h100") -> str:
    return json.dumps({"schema": "aisp-trace/expectations/1", "hardware_key": key, "claims": list(claims)})


def changed(claim: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`claim` with the key at dotted `path` set, or removed where `value` is `...`."""
    out = copy.deepcopy(claim)
    *parents, last = path.split(".")
    inner = out
    for parent in parents:
        inner = inner[parent]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return out


def test_both_claim_types_are_read() -> None:
    time, mechanism = parse(text(TIME, MECHANISM), "f").claims
    assert isinstance(time, TimeClaim) and isinstance(mechanism, MechanismClaim)
    assert time.ratio == Bound(1.5, 2.5)
    assert time.max_ms == {"baseline": 25.0, "optimized": 12.5}
    assert time.provenance is not None and time.provenance.rounds == 8 and time.provenance.nsys is None
    assert (mechanism.of, mechanism.stage, mechanism.against, mechanism.size) == ("copy|compute", None, None, None)
    assert mechanism.bound == Bound(0.5, None)


@pytest.mark.parametrize("names", [("baseline", "optimized"), ("optimized",), ()], ids=str)
def test_a_time_claim_limits_both_one_or_none(names: tuple[str, ...]) -> None:
    limits = {name: ms for name, ms in TIME["max_ms"].items() if name in names}
    (claim,) = parse(text(changed(TIME, "max_ms", limits)), "f").claims
    assert isinstance(claim, TimeClaim) and claim.max_ms == limits
    assert claim_document(claim)["max_ms"] == limits
    found = judge([ExpectationFile("h100", (claim,))], evidence())
    assert [(v.status, v.variant, v.part) for v in found] == [
        ("met", "optimized", "speedup"),
        *(("met", name, "limits") for name in names),
    ]


REFUSED: list[tuple[dict[str, Any], str, Any, str]] = [
    (MECHANISM, "varient", "x", "unknown key 'varient'; did you mean 'variant'?"),
    (MECHANISM, "bound.minimum", 1, "unknown key 'minimum'; did you mean 'min'?"),
    (MECHANISM, "baseline", "x", "unknown key 'baseline'"),
    (TIME, "provenance.comit", "x", "unknown key 'comit'; did you mean 'commit'?"),
    (TIME, "max_ms.optimised", 3, "unknown key 'optimised'; did you mean 'optimized'?"),
    (MECHANISM, "why", ..., "key 'why' is missing"),
    (MECHANISM, "why", "", "1 to 500 printable characters"),
    (MECHANISM, "why", "red \x1b[31m", "printable characters"),
    (MECHANISM, "why", "x" * 501, "1 to 500 printable characters"),
    (MECHANISM, "why", 3, "claims[0].why: expected text, found a number"),
    (MECHANISM, "id", "Has Spaces", "write lower-case letters"),
    (MECHANISM, "type", "speed", "type is 'speed'; it must be 'mechanism' or 'time'"),
    (MECHANISM, "type", ..., "claims[0]: key 'type' is missing; it must be 'mechanism' or 'time'"),
    (MECHANISM, "metric", "overlap.eficiency", "no metric is called 'overlap.eficiency'; did you mean"),
    (MECHANISM, "of", "copy|compuet", "has no 'copy|compuet'; did you mean 'copy|compute'?"),
    (MECHANISM, "of", ..., "needs 'of', one of copy|compute"),
    (MECHANISM, "unit", "percent", "unit: is 'percent', but this claim is in 'fraction'"),
    (MECHANISM, "against", "baseline", "unit: is 'fraction', but this claim is in 'ratio'"),
    (MECHANISM, "against", "optimized", "'optimized' is compared with itself"),
    (MECHANISM, "bound", {}, "bounds nothing"),
    (MECHANISM, "bound", {"min": None, "max": None}, "bounds nothing"),
    (MECHANISM, "bound", {"min": 0.0}, "every value of overlap.efficiency is >= 0; give a bound that can be missed"),
    (MECHANISM, "bound", {"max": 1}, "every value of overlap.efficiency is <= 1; give a bound that can be missed"),
    (MECHANISM, "bound", {"min": 2, "max": 1}, "min 2 is above max 1"),
    (MECHANISM, "bound", 0.5, "expected an object, found a number"),
    (MECHANISM, "bound", {"min": True}, "claims[0].bound.min: expected a number, found true or false"),
    (MECHANISM, "bound", {"min": "0.5"}, "claims[0].bound.min: expected a number, found text"),
    (MECHANISM, "bound", {"min": 10**400}, "does not fit 64 bits"),
    (MECHANISM, "source.kind", "guess", "is 'guess'; it must be 'measured' or 'model' or"),
    (MECHANISM, "source.kind", "measurd", "is 'measurd'; did you mean 'measured'?"),
    (MECHANISM, "source.run", "pipeline-1", "comes from no run"),
    (TIME, "source.run", ..., "a measured bound names its 'run'"),
    (TIME, "source.also", "pipeline-0", "claims[0].source.also: expected a list, found text"),
    (TIME, "source.also", [3], "claims[0].source.also[0]: expected text, found a number"),
    (MECHANISM, "source.also", ["pipeline-0"], "comes from no run"),
    (TIME, "provenance", None, "a measured bound needs its 'provenance'"),
    (TIME, "provenance.commit", None, "at least 'commit' and 'recorded_utc'"),
    (TIME, "provenance.rounds", 7.5, "expected a whole number, found 7.5"),
    (TIME, "size", ..., "key 'size' is missing"),
    (TIME, "baseline", "optimized", "'optimized' is compared with itself"),
    (TIME, "ratio.min", ..., "min must be a number above 0"),
    (TIME, "ratio.min", 0, "min must be a number above 0"),
    (TIME, "max_ms", ..., "key 'max_ms' is missing"),
    (TIME, "max_ms.optimised", 3, "unknown key 'optimised'; did you mean 'optimized'?"),
    (TIME, "max_ms.optimized", 0, "it must be above 0"),
    (TIME, "max_ms", [1], "expected an object, found a list"),
    (TIME, "min_items_per_s", {}, "min_items_per_s: is empty; leave the key out"),
    (TIME, "min_items_per_s", {"optimised": 1}, "unknown key 'optimised'; did you mean 'optimized'?"),
    (TIME, "min_items_per_s", {"optimized": 0}, "it must be above 0"),
    (TIME, "min_items_per_s", {"optimized": "fast"}, "min_items_per_s.optimized: expected a number, found text"),
]


@pytest.mark.parametrize(
    ("claim", "path", "value", "words"), REFUSED, ids=[f"{p}={v!r}"[:50] for _, p, v, _ in REFUSED]
)
def test_a_wrong_claim_is_refused_in_words(claim: dict[str, Any], path: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text(changed(claim, path, value)), "my.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("my.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "expected an object, found a list"),
        ("[" * 100_000, "nests more than 100 levels deep"),
        ('{"schema": NaN}', "NaN is not a JSON number"),
        ('{"schema": -Infinity}', "-Infinity is not a JSON number"),
        ('{"schema": 1' + "0" * 5000 + "}", "does not fit 64 bits"),
        ('{"schema": "a", "schema": "b"}', "key 'schema' appears twice"),
        (
            '{"schema": "aisp-trace/expectations/9", "hardware_key": "any", "claims": []}',
            "not 'aisp-trace/expectations/2'",
        ),
        ('{"schema": "aisp-trace/expectations/1", "claims": []}', "key 'hardware_key' is missing"),
        ('{"schema": "aisp-trace/expectations/1", "hardware_key": "H100!", "claims": []}', "write lower-case"),
        (
            '{"schema": "aisp-trace/expectations/1", "hardware_key": "any", "claims": {}}',
            "claims: expected a list, found an object",
        ),
        ('{"schema": "aisp-trace/expectations/1", "hardware_key": "any", "claims": [1]}', "found a number"),
        ('{"schema": "aisp-trace/expectations/1", "hardware_key": "any", "claim": []}', "did you mean 'claims'?"),
    ],
    ids=lambda v: v[:40],
)
def test_a_wrong_file_is_refused_in_words(source: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(source, "my.json")
    assert words in str(caught.value)


def faults_of(source: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        parse(source, "my.json")
    return caught.value.args


def test_everything_that_is_wrong_is_told_at_once_a_line_each() -> None:
    wrong_parts = {**MECHANISM, "varient": "x", "why": 3, "bound": {"minimum": 1}, "source": {"kind": "measurd"}}
    wrong_together = {**TIME, "baseline": "optimized", "ratio": {"min": 0}, "provenance": {"commit": "abc"}}
    assert faults_of(text(wrong_parts, wrong_together, {**MECHANISM, "of": None, "unit": "GB/s"}, key="H100")) == (
        "my.json: hardware_key: 'H100' names files; write lower-case letters, digits, '_', '.', '-'",
        "my.json: claims[0].bound: unknown key 'minimum'; did you mean 'min'?",
        "my.json: claims[0].why: expected text, found a number",
        "my.json: claims[0].source.kind: is 'measurd'; did you mean 'measured'? It must be 'measured' or 'model' or "
        "'datasheet' or 'definition'",
        "my.json: claims[0].source: key 'text' is missing",
        "my.json: claims[0]: unknown key 'varient'; did you mean 'variant'?",
        "my.json: claims[1].provenance: a measured bound needs at least 'commit' and 'recorded_utc'",
        "my.json: claims[1]: 'optimized' is compared with itself; name another baseline",
        "my.json: claims[1].ratio: min must be a number above 0, the least speedup that is claimed",
        "my.json: claims[1].max_ms: unknown key 'baseline'",
        "my.json: claims[2]: overlap.efficiency needs 'of', one of " + ", ".join(METRICS["overlap.efficiency"].choices),
        "my.json: claims[2].unit: is 'GB/s', but this claim is in 'fraction'",
    )


def test_how_the_claims_of_a_file_fit_together_is_told_at_once() -> None:
    hidden = {**MECHANISM, "metric": "overlap.hidden"}
    assert faults_of(text(hidden, hidden, TIME, key=ANY)) == (
        "my.json: two claims have the id 'pipeline.hidden'; give each its own",
        "my.json: claims[0]: overlap.hidden holds on one machine only; move it to expectations_<hardware_key>.json",
        "my.json: claims[1]: overlap.hidden holds on one machine only; move it to expectations_<hardware_key>.json",
        "my.json: claims[2]: a time holds on one machine; move the claim to expectations_<hardware_key>.json",
    )


@pytest.mark.parametrize(("many", "last"), [(20, "claims[19]: "), (21, "and 1 more fault"), (25, "and 5 more faults")])
def test_of_very_many_faults_the_first_twenty_are_told(many: int, last: str) -> None:
    told = faults_of(text(*[{**MECHANISM, "id": f"a{i}", "varient": "x"} for i in range(many)]))
    assert len(told) == min(many, 21)
    assert told[-1].startswith(f"my.json: {last}")


def test_another_versions_file_is_only_told_so() -> None:
    source = text({**MECHANISM, "varient": "x"}).replace("expectations/1", "expectations/3")
    assert faults_of(source) == (
        "my.json has schema 'aisp-trace/expectations/3', not 'aisp-trace/expectations/2'; write it for this version",
    )


def test_a_float_too_large_is_not_finite() -> None:
    source = text(MECHANISM).replace("0.5", "1e999")
    with pytest.raises(InputError, match="number 1e999 is not finite"):
        parse(source, "my.json")


def test_a_key_may_not_appear_twice_inside_a_claim() -> None:
    source = text(MECHANISM).replace('"min": 0.5', '"min": 0.5, "min": 0.1')
    with pytest.raises(InputError, match="key 'min' appears twice"):
        parse(source, "my.json")


def test_two_claims_of_one_id_are_refused() -> None:
    with pytest.raises(InputError, match=r"two claims have the id 'pipeline\.hidden'"):
        parse(text(MECHANISM, MECHANISM), "my.json")


@pytest.mark.parametrize(
    ("metric", "extra"),
    [
        ("overlap.hidden", {"of": "copy|compute", "unit": "fraction"}),
        ("allocator.stall_share", {"of": None, "unit": "fraction"}),
        ("bandwidth.gb_per_s", {"of": "h2d", "unit": "GB/s"}),
    ],
)
def test_times_are_not_claimed_of_every_machine(metric: str, extra: dict[str, Any]) -> None:
    claim = {**MECHANISM, "metric": metric, **extra}
    assert parse(text(claim, key="h100"), "f").claims
    with pytest.raises(InputError, match="holds on one machine only"):
        parse(text(claim, key=ANY), "f")


def test_speedups_are_not_claimed_of_every_machine() -> None:
    with pytest.raises(InputError, match="a time holds on one machine"):
        parse(text(TIME, key=ANY), "f")


def test_a_metric_that_needs_a_stage_gets_one_and_others_do_not() -> None:
    instances = {**MECHANISM, "metric": "stage.instances", "of": None, "unit": "count"}
    with pytest.raises(InputError, match="needs a stage"):
        parse(text(instances), "f")
    assert parse(text({**instances, "stage": "h2d"}), "f").claims
    bandwidth = {**MECHANISM, "metric": "bandwidth.gb_per_s", "of": "h2d", "unit": "GB/s", "stage": "h2d"}
    with pytest.raises(InputError, match="takes no stage"):
        parse(text(bandwidth), "f")
    with pytest.raises(InputError, match="takes no 'of'"):
        parse(text({**instances, "stage": "h2d", "of": "h2d"}), "f")


# --- folders ----------------------------------------------------------------------------------------------------------


def put(folder: Path, name: str, source: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source, encoding="utf-8")
    return folder


def test_the_folder_asked_for_goes_before_the_projects_and_that_before_the_packages(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    assert (load_expectations(None, project).chosen, load_expectations(None, project).folder) == (
        "package",
        PACKAGE_DIR,
    )
    (project / "expectations").mkdir()
    assert load_expectations(None, project).chosen == "package"  # an empty folder claims nothing
    put(project / "expectations", "expectations_h100.json", text(TIME))
    assert load_expectations(None, project).chosen == "project"
    asked = put(tmp_path / "asked", "expectations_any.json", text(MECHANISM, key=ANY))
    found = load_expectations(asked, project)
    assert (found.chosen, found.folder, [f.hardware_key for f in found.files]) == ("option", asked, [ANY])


def test_a_folder_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        load_expectations(tmp_path / "absent", tmp_path)
    with pytest.raises(InputError, match="holds no file expectations_"):
        load_expectations(tmp_path, tmp_path)


def test_a_file_named_for_another_machine_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "expectations_a100.json", text(TIME, key="h100"))
    with pytest.raises(InputError, match="holds hardware_key 'h100'; rename the file"):
        load_expectations(tmp_path, tmp_path)


def test_files_of_one_machine_share_no_ids_but_those_of_two_may(tmp_path: Path) -> None:
    put(tmp_path, "expectations_h100.json", text(MECHANISM, key="h100"))
    put(tmp_path, "expectations_a100.json", text(MECHANISM, key="a100"))
    assert len(load_expectations(tmp_path, tmp_path).files) == 2
    put(tmp_path, "expectations_any.json", text(MECHANISM, key=ANY))
    with pytest.raises(InputError, match="two claims have the id"):
        load_expectations(tmp_path, tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "expectations_any.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_expectations(tmp_path, tmp_path)
    (tmp_path / "expectations_any.json").unlink()
    (tmp_path / "expectations_any.json").mkdir()
    with pytest.raises(InputError, match="is not a regular file"):
        load_expectations(tmp_path, tmp_path)


def test_the_packages_own_files_are_right(tmp_path: Path) -> None:
    found = load_expectations(None, tmp_path)
    assert ANY in [f.hardware_key for f in found.files]
    assert all(claim.id.startswith(claim.workload + ".") for f in found.files for claim in f.claims)


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_page_about_verdicts_names_every_metric_and_its_example_is_right() -> None:
    page = (PACKAGE_DIR.parent / "docs" / "verdicts.md").read_text(encoding="utf-8")
    assert [name for name in METRICS if f"`{name}`" not in page] == []
    assert [status for status in STATUSES if f"| `{status}` |" not in page] == []
    example = page.split("```json")[1].split("```")[0]
    assert [claim.id for claim in parse(example, "docs/verdicts.md").claims] == ["my_loader.copies_hidden"]


PAGES = [p for folder in (".", "docs", "examples") for p in sorted((PACKAGE_DIR.parent / folder).glob("*.md"))]
BLOCKS = {
    f"{page.name}-{i}": block
    for page in PAGES
    for i, block in enumerate(
        re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_json_on_a_page_is_read_by_what_it_is_for(block: str) -> None:
    """A whole expectation file, a file of wishes, one claim, read as in a file of a machine, or a client's own settings."""
    data = json.loads(block)
    if set(data) == {"mcpServers"}:
        assert data["mcpServers"]["aisp-trace"]["args"][0] == "mcp"
    elif data.get("schema") == WANTED_SCHEMA:
        assert parse_wanted(block, "the page")
    elif "schema" in data:
        assert parse(block, "the page").claims
    else:
        assert parse(text(data), "the page").claims


def test_pages_show_a_claim_of_each_type() -> None:
    shown = " ".join(BLOCKS.values())
    assert '"type": "mechanism"' in shown and '"type": "time"' in shown and WANTED_SCHEMA in shown
