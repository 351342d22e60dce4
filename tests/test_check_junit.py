"""`check --junit`: what each verdict becomes, what must never look green, and names that XML cannot carry."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aisp_trace.cli.main import main
from aisp_trace.expectations.judging import judged as cli_evidence
from aisp_trace.expectations.judging.judged import Judged
from aisp_trace.expectations.judging.verdict import STATUSES, Verdict, exit_code
from aisp_trace.expectations.model import Bound, Expectations, Source
from aisp_trace.report.ci.junit import junit
from aisp_trace.tests.judging.build import HIDDEN, SERIAL, evidence, run_folder
from aisp_trace.tests.test_expectations_files import MECHANISM, TIME, put, text

HOSTILE = 'a\x1b[31m\x00\x07\ufffe\ud800<b>&"]]>\n\u202e|`x`@you #1 https://x.y [l](u)'


def verdict(status: str, **changes: object) -> Verdict:
    made = Verdict(
        claim="pipeline.faster",
        quantity="speedup of optimized over baseline",
        status=status,
        reason="the interval lies somewhere",
        variant="optimized",
        hardware_key="h100",
        expected_on="h100",
        source=Source("measured", "pipeline-0", "8 rounds"),
        unit="ratio",
        bound=Bound(1.5, 3.0),
        value=2.0,
        low=1.9,
        high=2.1,
        coverage=0.99,
        margin=0.4,
        n=8,
        sample="rounds",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def judged(verdicts: Sequence[Verdict], *, workload: str = "pipeline", notes: Sequence[str] = ()) -> Judged:
    found = Expectations(Path("expectations"), "option", ())
    return Judged(found, evidence(workload=workload), tuple(verdicts), tuple(notes))


def cases(document: str) -> list[tuple[str, list[str]]]:
    """(name, the elements in it that say how it ended) of every test case."""
    root = ET.fromstring(document)
    return [
        (case.get("name", ""), [child.tag for child in case if child.tag != "system-out"])
        for case in root.iter("testcase")
    ]


@pytest.mark.parametrize(
    ("status", "element"),
    [
        ("met", []),
        ("exceeded", []),
        ("missed", ["failure"]),
        ("inconclusive", ["error"]),
        ("invalid", ["error"]),
    ],
)
def test_each_verdict_is_one_case(status: str, element: list[str]) -> None:
    assert cases(junit(judged([verdict(status)]))) == [("faster: speedup of optimized over baseline", element)]


def test_unrecorded_beside_judged_claims_is_skipped() -> None:
    found = cases(junit(judged([verdict("met"), verdict("unrecorded")])))
    assert [element for _, element in found] == [[], ["skipped"]]


@pytest.mark.parametrize("verdicts", [[], [verdict("unrecorded")]])
def test_nothing_judged_is_an_error_and_never_green(verdicts: list[Verdict]) -> None:
    document = junit(judged(verdicts))
    assert cases(document)[-1] == ("anything judged", ["error"])
    assert ET.fromstring(document).get("errors") == "1"


@pytest.mark.parametrize("first", STATUSES)
@pytest.mark.parametrize("second", STATUSES)
def test_green_is_exactly_exit_code_0_and_the_sums_are_right(first: str, second: str) -> None:
    verdicts = [verdict(first), verdict(second)]
    document = junit(judged(verdicts))
    root = ET.fromstring(document)
    bad = int(root.get("failures", "")) + int(root.get("errors", ""))
    assert (bad == 0) == (exit_code(verdicts) == 0)
    found = [element for _, element in cases(document)]
    assert root.get("tests") == str(len(found))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert root.get(name) == str(sum(tag in e for e in found)) == root[0].get(name)


def test_a_case_shows_its_working() -> None:
    document = junit(judged([verdict("missed")], notes=["a note"]))
    failure = ET.fromstring(document).find(".//failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("missed", "missed: the interval lies somewhere")
    assert (failure.text or "").splitlines() == [
        "value 2 ratio, interval 1.9 .. 2.1, bound 1.5 .. 3, margin +0.4, n 8 rounds",
        "bound from measured in pipeline-0: 8 rounds",
    ]
    assert ET.fromstring(document).findtext("testsuite/system-out") == "a note"


def test_characters_that_xml_cannot_carry_are_written_out() -> None:
    hostile = verdict("invalid", claim=HOSTILE, quantity=HOSTILE, reason=HOSTILE, source=Source("model", None, HOSTILE))
    document = junit(judged([hostile, verdict("unrecorded", reason=HOSTILE)], workload=HOSTILE, notes=[HOSTILE]))
    root = ET.fromstring(document.encode("utf-8"))  # a parser refuses NUL, ESC, U+FFFE and lone surrogates
    shown = root.find(".//error")
    assert shown is not None
    assert r'a\x1b[31m\x00\x07\ufffe\ud800<b>&"]]>\n\u202e|' in shown.get("message", "")
    assert all(c in "\n" or c.isprintable() for c in document)


def test_the_command_writes_the_file_and_keeps_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(cli_evidence, "analyses_of_run", lambda run: {"baseline": SERIAL, "optimized": HIDDEN})
    run = run_folder(tmp_path / "pipeline-2")
    file = tmp_path / "verdicts.xml"
    rows: list[tuple[dict[str, Any], int, tuple[str, str]]] = [
        ({}, 0, ("0", "0")),
        ({"ratio": {"min": 2.5}}, 1, ("1", "0")),
        ({"size": "large"}, 3, ("0", "1")),
    ]
    for changes, code, sums in rows:
        put(tmp_path / "mine", "expectations_h100.json", text({**TIME, **changes}, key="h100"))
        assert main(["check", str(run), "--expectations", str(tmp_path / "mine"), "--junit", str(file)]) == code
        root = ET.parse(file).getroot()
        assert (root.get("failures"), root.get("errors")) == sums
    capsys.readouterr()
    put(tmp_path / "mine", "expectations_h100.json", text(MECHANISM, key="h100"))
    absent = tmp_path / "absent" / "verdicts.xml"
    assert main(["check", str(run), "--expectations", str(tmp_path / "mine"), "--junit", str(absent)]) == 2
    err = capsys.readouterr().err
    assert f"{absent} cannot be written because {absent.parent} is not a folder; make it first" in err
    assert len(err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "pipeline-2", "verdicts.xml"]
