"""The line that says what was judged: a figure has the verdict of its own variant's claims, and no other's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisp_trace.expectations.judging.verdict import STATUSES, headline
from aisp_trace.tests.test_check_junit import verdict

Claimed = Sequence[tuple[str, str]]
"""(variant, status) of claims of a speedup."""


def line(claims: Claimed) -> str:
    found = [
        verdict(status, variant=variant, part="speedup", reason="the machine is new") for variant, status in claims
    ]
    return headline([*found, verdict("met", part="mechanism")], "2x", "optimized")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([("optimized", "met")], "mechanism met; speedup 2x met"),
        ([("optimized", "exceeded"), ("pinned", "met")], "mechanism met; speedup 2x met"),
        ([("optimized", "met"), ("pinned", "missed")], "speedup of pinned missed; mechanism met; speedup 2x met"),
        ([("optimized", "missed"), ("pinned", "met")], "speedup 2x missed; mechanism met; speedup of pinned met"),
        (
            [("optimized", "unrecorded"), ("pinned", "met")],
            "mechanism met; speedup of pinned met; speedup 2x not judged: the machine is new",
        ),
        (
            [("optimized", "unrecorded"), ("paged", "inconclusive")],
            "speedup of paged inconclusive; mechanism met; speedup 2x not judged: the machine is new",
        ),
        ([("pinned", "missed")], "speedup of pinned missed; mechanism met; speedup 2x not judged: no claim bounds it"),
        ([], "mechanism met; speedup 2x not judged: no claim bounds it"),
    ],
)
def test_what_is_said(claims: Claimed, said: str) -> None:
    assert sorted(line(claims).split("; ")) == sorted(said.split("; "))
    assert line(claims).split("; ")[0] == said.split("; ")[0] or "met" in said.split("; ")[0], "the gravest comes first"


@given(st.lists(st.tuples(st.sampled_from(["optimized", "pinned", "paged"]), st.sampled_from(STATUSES)), max_size=6))
def test_nothing_that_was_judged_is_left_out_or_taken_over(claims: Claimed) -> None:
    said = line(claims).split("; ")
    own = {"met" if status == "exceeded" else status for variant, status in claims if variant == "optimized"}
    (figure,) = (part for part in said if part.startswith("speedup 2x "))
    assert figure.split()[2] in own or (not own - {"unrecorded"} and figure.startswith("speedup 2x not judged"))
    for status in ("missed", "invalid", "inconclusive"):
        others = {variant for variant, its in claims if its == status and variant != "optimized"}
        worse = ("missed", "invalid", "inconclusive")[: ("missed", "invalid", "inconclusive").index(status)]
        for one in others:
            graver = any((one, its) in claims for its in worse)
            assert graver or f"speedup of {one} {status}" in said
