"""The page as text: what it says about a pair of traces, and what a hostile trace cannot make it say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs

import plotly.graph_objects as go
import polars as pl
import pytest
from plotly.offline import get_plotlyjs

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import Analysis
from aisp_trace.expectations.judging.verdict import STATUSES, Verdict
from aisp_trace.expectations.model import Bound, Source
from aisp_trace.report.page.blocks import Section
from aisp_trace.report.page.bundle import packed_plotly
from aisp_trace.report.page.copies import NO_COPIES, bandwidth_section, exposed_copy_ns, hidden_share, overlap_section
from aisp_trace.report.page.page import render
from aisp_trace.report.page.sides import Side
from aisp_trace.report.page.templates import html_of
from aisp_trace.report.page.verdicts import WORDS
from aisp_trace.tests.builders import pair
from aisp_trace.traces.model import Trace
from aisp_trace.traces.unread import is_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x00\u202e]]>-->"


def _traces(kernel: str = "gemm") -> dict[str, Trace]:
    return {"baseline": pair.baseline(kernel), "optimized": pair.optimized(kernel)}


def _analyses(traces: dict[str, Trace]) -> list[Analysis]:
    return [analyze(t, variant=name, window="measured", largest_gaps=500) for name, t in traces.items()]


def _verdict(status: str, **changes: object) -> Verdict:
    made = Verdict(
        claim=f"pair.{status}",
        quantity="overlap.hidden copy|compute of optimized",
        status=status,
        reason="because of this",
        variant="optimized",
        hardware_key="h100_80gb_hbm3",
        expected_on="any",
        source=Source("model", None, "two of three ms can hide"),
        unit="fraction",
        bound=Bound(0.5, None),
        value=0.667,
        low=0.65,
        high=0.68,
        coverage=0.992,
        margin=0.15,
        n=10,
        sample="iterations",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _page(tmp_path: Path, verdicts: list[Verdict] | None = None) -> str:
    traces = _traces()
    return render(pair.run(tmp_path), _analyses(traces), traces, verdicts, version="1.2.3")


class _Shape(HTMLParser):
    """Tags that are open where they should be closed, ids, link targets, and text outside scripts and styles."""

    void = frozenset({"meta", "br", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(str(value))
            if key in ("href", "src", "srcset", "action", "data"):
                self.targets.append(str(value))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.words.append(data)


def _said(made: Section | None) -> str:
    assert made is not None
    return _Shape(html_of(made)).text


def test_the_page_is_well_formed_and_points_only_into_itself(tmp_path: Path) -> None:
    shape = _Shape(_page(tmp_path, [_verdict("met")]))
    assert shape.wrong == [] and shape.open == []
    assert len(shape.ids) == len(set(shape.ids))
    places = [t for t in shape.targets if not t.startswith("#timeline&")]
    assert len(places) > 10 and all(t.startswith("#") and t[1:] in shape.ids for t in places)
    views = [parse_qs(t.removeprefix("#timeline&")) for t in shape.targets if t not in places]
    assert {"trace", "from", "to", "stage", "kernel"} == {key for view in views for key in view}
    assert {view["trace"][0] for view in views} == {"baseline", "optimized"}


def test_the_policy_forbids_requests_and_names_exactly_the_scripts_of_the_page(tmp_path: Path) -> None:
    page = _page(tmp_path)
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0]
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(scripts) == 3 and re.findall(r"'sha256-([^']*)'", policy) == [*hashes, packed_plotly().script_hash]


def test_plotly_is_packed_once_and_its_hash_is_that_of_what_is_unpacked(tmp_path: Path) -> None:
    page = _page(tmp_path)
    (packed,) = re.findall(r'<script type="text/plain" id="plotly">(.*?)</script>', page)
    script = zlib.decompress(base64.b85decode(packed.replace(".", "<")), -zlib.MAX_WBITS).decode()
    assert "<" not in packed  # nothing that ends, or does not end, a script element
    assert script == get_plotlyjs() and "plotly.js v" not in page
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == packed_plotly().script_hash
    assert len(page.encode()) < 2_500_000


def test_a_page_without_charts_carries_no_plotly() -> None:
    page = render(None, [], {})
    assert 'id="plotly"' not in page and len(page) < 60_000


def test_figures_are_valid_plotly(tmp_path: Path) -> None:
    page = _page(tmp_path)
    data = json.loads(re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)[0])
    data = data["figures"]
    charts = ["figure-waterfall", "figure-ledger", "figure-overlap", "figure-iterations", "figure-rounds"]
    assert list(data) == charts
    for figure in data.values():
        go.Figure(figure)  # raises for a property plotly does not know


def test_every_section_of_a_run_is_there(tmp_path: Path) -> None:
    shape = _Shape(_page(tmp_path, [_verdict("met")]))
    sections = ["verdict", "why", "left", "timeline", "waterfall", "ledger", "kernels", "overlap", "bandwidth", "gaps"]
    sections += ["iterations", "allocator", "rounds", "claims", "trust", "reproduce", "environment"]
    assert [i for i in shape.ids if i in sections] == sections


def test_the_numbers_are_those_of_the_drawing(tmp_path: Path) -> None:
    said = _Shape(_page(tmp_path)).text
    assert "copies hidden baseline 0 % optimized 66.7 %" in said
    assert "exposed copies baseline 3.000 ms optimized 1.000 ms per traced iteration" in said
    assert "baseline, GPU 0: the cells sum to the window of 20,000,000 ns over 2 iterations exactly." in said
    assert "optimized, GPU 0: the cells sum to the window of 12,000,000 ns over 2 iterations exactly." in said
    assert "optimized is 2.000 × as fast as baseline" in said
    assert "0123456789ab (with uncommitted changes)" in said
    assert "nsys profile -t cuda,nvtx -o optimized/trace python -m work" in said
    assert "clocks were not locked" in said


def test_too_few_rounds_have_no_interval(tmp_path: Path) -> None:
    traces = _traces()
    said = _Shape(render(pair.run(tmp_path, rounds=3), _analyses(traces), traces)).text
    assert (
        "too few rounds for an interval; 3 untraced rounds; no bound was judged" in said
        and "between" not in said.partition("Why")[0]
    )


def test_pageable_rates_are_labelled_and_pinned_ones_are_not() -> None:
    base, fast = (Side(a.variant or "", a) for a in _analyses(_traces()))
    assert _said(bandwidth_section([base])).count("effective") == 2  # the label, and its explanation
    assert _said(bandwidth_section([fast])).count("effective") == 1
    assert "16.67 GB/s" in _said(bandwidth_section([fast]))  # 50 MB in 3 ms


@pytest.mark.parametrize("status", STATUSES)
def test_a_verdict_shows_its_working(tmp_path: Path, status: str) -> None:
    shape = _Shape(_page(tmp_path, [_verdict(status)]))
    for words in (f"pair.{status}", "66.7 %", "≥ 50.0 %", "+15.0 pp", "65.0 % to 68.0 % (99.2%)", "10 iterations"):
        assert words in shape.text
    assert "why: because of this · bound: model: two of three ms can hide" in shape.text
    assert f"{WORDS[status][0]} 1 {status}" in shape.text


def test_what_needs_attention_comes_first(tmp_path: Path) -> None:
    said = _Shape(_page(tmp_path, [_verdict("met"), _verdict("missed"), _verdict("unrecorded")])).text
    assert said.index("pair.missed") < said.index("pair.met") < said.index("pair.unrecorded")


def test_claims_that_were_not_judged_are_folded_away_unless_all_are(tmp_path: Path) -> None:
    folding = "1 claim unrecorded: no bound applies here"
    three = _page(tmp_path, [_verdict("met"), _verdict("unrecorded"), _verdict("missed"), _verdict("exceeded")])
    claims = three.split('<section id="claims"', 1)[1].split("</section>", 1)[0]
    open_, met, unseen = claims.split("<details>")
    assert "pair.missed" in open_ and "pair.met" not in open_ and "pair.unrecorded" not in open_
    assert (
        "<summary>✓ 2 claims met, 1 of them exceeded</summary>" in met and "pair.met" in met and "pair.exceeded" in met
    )
    assert f"<summary>{folding}</summary>" in unseen and "pair.unrecorded" in unseen
    assert folding not in _page(tmp_path, [_verdict("unrecorded")])
    assert folding not in _page(tmp_path, [_verdict("met")])


def test_a_verdict_without_value_shows_no_number(tmp_path: Path) -> None:
    empty = _verdict("invalid", bound=None, value=None, low=None, high=None, margin=None, coverage=None, n=0)
    said = _Shape(_page(tmp_path, [empty])).text
    assert "pair.invalid overlap.hidden copy|compute of optimized ⚠ invalid – – – – –" in said


def test_no_expectation_is_said_and_is_not_a_verdict(tmp_path: Path) -> None:
    assert "nothing was judged" in _Shape(_page(tmp_path, [])).text
    assert "claims" not in _Shape(_page(tmp_path, None)).ids


def test_no_copies_is_never_zero_percent() -> None:
    trace = pair.trace([("compute", 7, 1000, 2000)], [("measured", 0, 3000)])
    side = Side("only", analyze(trace, window="measured"))
    assert hidden_share(side) is None and exposed_copy_ns(side) is None
    page = render(None, [side.analysis], {side.key: trace})
    said = _Shape(page).text
    assert f"copies hidden {NO_COPIES}" in said and "There were no copies, so there was nothing to hide." in said
    assert "0 % hidden" not in said


def test_one_side_without_copies_says_so_beside_the_other() -> None:
    bare = analyze(pair.trace([("compute", 7, 1000, 2000)], [("measured", 0, 3000)]), variant="bare", window="measured")
    said = _said(overlap_section([Side("bare", bare), Side("fast", _analyses(_traces())[1])]))
    assert "fast GPU 0 all copies 6.000 ms" in said and "bare (whole device) no copies" in said


def test_what_cannot_be_told_has_its_reason_and_no_number() -> None:
    told = _analyses(_traces())[1]
    trust = pl.DataFrame(
        [("overlap", "unavailable", "graphs were recorded whole")], schema=told.trust.schema, orient="row"
    )
    side = Side("fast", replace(told, trust=trust))
    made = overlap_section([side])
    said = _said(made)
    assert "Cannot tell (overlap, fast): graphs were recorded whole" in said and not list(made.charts)
    assert "6.000 ms cannot tell" in said and "66.7 %" not in said and hidden_share(side) is None
    page = render(None, [side.analysis], {})
    assert "copies hidden cannot tell" in _Shape(page).text


def test_partial_trust_is_said_where_the_number_is() -> None:
    told = _analyses(_traces())[1]
    trust = pl.DataFrame([("overlap", "partial", "3 launches have no row")], schema=told.trust.schema, orient="row")
    said = _said(overlap_section([Side("fast", replace(told, trust=trust))]))
    assert "Read with care (overlap, fast): 3 launches have no row" in said and "66.7 %" in said


def test_a_ledger_that_does_not_sum_is_called_out() -> None:
    told = _analyses(_traces())[1]
    page = render(None, [replace(told, ledger=told.ledger.head(1))], {})
    assert "the window is 12,000,000 ns" in _Shape(page).text and 'class="wrong"' in page


def test_a_bare_trace_has_neither_verdict_nor_speed() -> None:
    trace = pair.baseline()
    shape = _Shape(render(None, [analyze(trace)], {trace.meta.file: trace}))
    assert not {"claims", "rounds"} & set(shape.ids) and {"why", "left", "timeline", "ledger", "environment"} <= set(
        shape.ids
    )
    assert "nothing to compare with" in shape.text


def test_a_trace_in_which_no_device_worked_gives_a_page() -> None:
    trace = pair.trace([], [("measured", 0, 9000), ("load", 1000, 4000)])
    said = _Shape(render(None, [analyze(trace)], {trace.meta.file: trace})).text
    assert "The window has no device operations" in said


def test_a_run_without_traces_gives_its_timings(tmp_path: Path) -> None:
    shape = _Shape(render(pair.run(tmp_path), [], {}))
    assert "rounds" in shape.ids and "timeline" not in shape.ids
    assert "optimized is 2.000 × as fast as baseline" in shape.text


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    stages = [("measured", 0, 9000), ("iteration", 0, 9000), (HOSTILE, 100, 8000), ("x" * 1_000_000, 200, 7000)]
    trace = pair.trace([("compute", 7, 1000, 2000), ("h2d", 7, 3000, 4000)], stages, kernel=HOSTILE, file=HOSTILE)
    found = analyze(trace, variant=HOSTILE, window="measured")
    bad = pl.DataFrame([("overlap", "partial", HOSTILE)], schema=found.trust.schema, orient="row")
    verdict = _verdict("met", claim=HOSTILE, quantity=HOSTILE, reason=HOSTILE)
    run = pair.run(tmp_path, workload=HOSTILE)
    run = replace(
        run, manifest=replace(run.manifest, notes=(HOSTILE,), command_line=(HOSTILE,), packages={HOSTILE: "1"})
    )
    page = render(run, [replace(found, trust=bad)], {HOSTILE: trace}, [verdict], version=HOSTILE)
    assert "<script>alert" not in page and "<img" not in page and "\x00" not in page and "\u202e" not in page
    shape = _Shape(page)
    assert shape.wrong == [] and shape.open == [] and "img" not in shape.tags
    assert (
        shape.tags.count("script") == 7
    )  # figures, plotly packed, the timeline's words and trace, the page's own three
    assert page.count("alert(1)") > 10  # it is shown, as text
    assert len(page.encode()) < 2_500_000  # a name of 1 MB is not


def test_plotly_sees_names_as_text_too(tmp_path: Path) -> None:
    """plotly reads a little HTML in labels, so names are escaped for it before they are escaped for the script."""
    name = "<b>bold</b><a href='https://example.org'>here</a>"
    stages = [("measured", 0, 9000), ("iteration", 0, 9000), (name, 100, 8000)]
    trace = pair.trace([("compute", 7, 3000, 4000)], stages, kernel=name)
    page = render(None, [analyze(trace)], {trace.meta.file: trace})
    figures = re.findall(r'id="figures">(.*?)</script>', page, re.DOTALL)[0]
    drawn = json.dumps(json.loads(figures)["figures"])
    assert "&lt;b&gt;bold" in drawn and "<b>bold" not in drawn and "<a" not in drawn


def test_a_page_is_told_from_others_by_its_beginning() -> None:
    page = render(None, [], {}, version="0.1.0").encode()
    assert is_page(page[:4096])
    assert (
        not is_page(page.replace(b'content="aisp-trace', b'content="other'))
        and not is_page(b"")
        and not is_page(page[1:])
    )
