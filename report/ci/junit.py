"""Verdicts as JUnit XML, the format that continuous integration systems show: one test case for each verdict.

    met, exceeded            passed
    missed                   failure
    inconclusive, invalid    error: it could not be judged, and must not look green
    unrecorded               skipped; where nothing else was judged, one more case is an error, as the exit code is 3

Input that cannot be read (exit code 2) leaves no file. Text comes from traces and from people: characters that XML 1.0 cannot
carry, not even escaped, are written as ``\\x1b``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Final

from ...expectations.judging.judged import Judged, headline_of
from ...expectations.judging.verdict import Verdict, counts, exit_code
from ...traces.output import Kind
from ..terminal.console import escape
from ..terminal.verdicts import cells, unit_of

NAME: Final = "aisp-trace check"
JUNIT: Final = Kind("JUnit file of aisp-trace", lambda head: f'<testsuites name="{NAME}"'.encode() in head[:200])

ELEMENTS: Final[Mapping[str, str]] = {
    "missed": "failure",
    "inconclusive": "error",
    "invalid": "error",
    "unrecorded": "skipped",
}
"""The element inside a test case that tells how it ended; none means that it passed."""


def junit(judged: Judged) -> str:
    """The whole document. Its `errors` and `failures` are 0 exactly where `check` leaves with 0."""
    evidence = judged.evidence
    suite = ET.Element("testsuite", name=escape(evidence.workload))
    properties = ET.SubElement(suite, "properties")
    facts = {
        "run": evidence.run_id,
        "hardware_key": evidence.hardware_key,
        "timed_by": evidence.timed,
        "headline": headline_of(judged),
        "expectations": str(judged.expectations.folder),
    }
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=escape(value))
    for verdict in judged.verdicts:
        _case(suite, verdict, evidence.workload)
    found = counts(judged.verdicts)
    errors = found["inconclusive"] + found["invalid"]
    if exit_code(judged.verdicts) == 3 and not errors:
        errors = 1
        case = ET.SubElement(suite, "testcase", classname=_class(evidence.workload), name="anything judged")
        ET.SubElement(case, "error", message="no claim could be judged on this run", type="unrecorded")
    if judged.notes:
        ET.SubElement(suite, "system-out").text = "\n".join(escape(note) for note in judged.notes)
    sums = {
        "tests": len(suite.findall("testcase")),
        "failures": found["missed"],
        "errors": errors,
        "skipped": found["unrecorded"],
    }
    root = ET.Element("testsuites", name=NAME)
    for element in (root, suite):
        for name, number in sums.items():
            element.set(name, str(number))
    root.append(suite)
    ET.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, v: Verdict, workload: str) -> None:
    name = escape(f"{v.claim.removeprefix(f'{workload}.')}: {v.quantity}")
    case = ET.SubElement(suite, "testcase", classname=_class(workload), name=name)
    element = ELEMENTS.get(v.status)
    if element == "skipped":
        ET.SubElement(case, element, message=escape(v.reason))
    elif element is not None:
        ET.SubElement(case, element, message=escape(f"{v.status}: {v.reason}"), type=v.status).text = working(v)
    ET.SubElement(case, "system-out").text = f"{v.status}: {escape(v.reason)}\n{working(v)}"


def _class(workload: str) -> str:
    return f"aisp-trace.{escape(workload)}"


def working(v: Verdict) -> str:
    """Value, interval, bound, margin and where the bound comes from, in two lines."""
    c, unit = cells(v), f" {unit_of(v)}".rstrip()
    source = f"{v.source.kind}{f' in {v.source.run}' if v.source.run else ''}: {v.source.text}"
    lines = (
        f"value {c.value}{unit}, interval {c.interval}, bound {c.bound}, margin {c.margin}, n {c.n} {v.sample}".rstrip(),
        f"bound from {source}",
    )
    return "\n".join(escape(line) for line in lines)
