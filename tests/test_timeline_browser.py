"""The timeline in a real browser: what is drawn is what the trace holds at any zoom, and it obeys mouse, keys and links."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import numpy as np
import polars as pl
import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.analyze.result import IDLE, Analysis
from aisp_trace.analyze.sources import Asked, Source, find_source
from aisp_trace.benchmarks.generate import generate
from aisp_trace.report.page.page import render
from aisp_trace.report.page.timeline import Shown, section
from aisp_trace.report.page.timeline.side import MOST_CALLS, MOST_OPS
from aisp_trace.report.palette import css
from aisp_trace.tests.builders import pair
from aisp_trace.tests.builders.browser import CHROMIUM, Browser, Page, processor_seconds, running
from aisp_trace.tests.builders.samples import SAMPLES, unpack
from aisp_trace.traces.model import Trace

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH: the page was not loaded in a browser")

MS = pair.MS
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TRACES = (
    "h100_pipeline_decode",
    "h100_pipeline_decode_graph_nodes",
    "h200_graphs",
    "h200_managed",
    "h200x2_ddp",
    "h200x2_handoff",
    "h200x2_two_processes",
)

# Pixels of each paint in each lane's share area, as {lane label: {paint: pixels}}, and how many there are.
COUNT = """(() => {
  const t = document.getElementById("timeline").timeline;
  t.name = () => {};
  t.draw();
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [t.picture.width, t.picture.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(t.picture, 0, 0);
  const ground = t.theme.track, outside = t.theme.outside;
  return t.lanes.map((lane) => {
    const { left, top, width, height } = t.area(lane);
    const pixels = new Uint32Array(context.getImageData(left, top, width, height).data.buffer);
    const paint = new Map();
    for (const number of lane.paints) {
      const colours = t.theme.paints[number];
      for (const key of ["plain", "hatched", "sparse", "second", "edge"]) paint.set(colours[key], number - 1);
    }
    const counts = {};
    for (const p of pixels) {
      if (p !== ground && p !== outside) {
        const name = paint.has(p) ? t.paintNames[paint.get(p)] : "?";
        counts[name] = (counts[name] || 0) + 1;
      }
    }
    return { label: lane.label, role: lane.role, counts, all: pixels.length };
  });
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running(tmp_path_factory.mktemp("profile")) as started:
        yield started


def _opened(name: str, folder: Path) -> tuple[Trace, Analysis]:
    (one,) = Source(None, unpack(name, folder)).open(Asked(steady=True))
    return one.trace, one.analysis


def _write(folder: Path, *shown: Shown, most_ops: int = MOST_OPS, most_calls: int = MOST_CALLS) -> Path:
    """A page of nothing but the timeline, as strict as the whole one."""
    made = section(shown, most_ops, most_calls)
    assert made is not None
    digest = base64.b64encode(hashlib.sha256(made.script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    head = f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
    body = f"<p style='height: 1500px'></p>{made.markup}{made.data}<script>{made.script}</script><p style='height: 1500px'></p>"
    place = folder / "page.html"
    place.write_text(f"{head}<title>t</title><style>:root {{ {css()[0]} }}{made.style}</style>{body}", encoding="utf-8")
    return place


def _shown(trace: Trace, analysis: Analysis) -> Shown:
    return Shown("trace", "trace", trace, analysis)


def _pair(folder: Path, kernel: str = "gemm") -> Path:
    traces = {"baseline": pair.baseline(kernel), "optimized": pair.optimized(kernel)}
    return _write(folder, *(Shown(n, n, t, analyze(t, variant=n, window="measured")) for n, t in traces.items()))


def _load(browser: Browser, page: Path, fragment: str = "", width: int = 1200) -> Page:
    opened = browser.open(page, width=width, fragment=fragment)
    opened.ready()
    assert opened.eval("document.getElementById('timeline').dataset.failed || ''") == ""
    return opened


def _view(page: Page) -> tuple[float, float]:
    low, high = page.eval("(({from, to}) => [from, to])(document.getElementById('timeline').timeline)")
    return float(low), float(high)


def _go(page: Page, fragment: str) -> None:
    """Follow a link."""
    page.eval(
        "new Promise((done) => { addEventListener('hashchange', done, { once: true });"
        f"location.hash = {fragment!r}; }}).then(() => 0)"
    )


def _quiet(page: Page) -> None:
    assert page.console() == [] and page.requests() == []
    assert page.eval("document.querySelectorAll('.tl-problems p').length") == 0


def _union(start: np.ndarray[Any, Any], end: np.ndarray[Any, Any], low: float, high: float) -> float:
    """Share of ``[low, high)`` that intervals fill."""
    start, end = np.clip(start, low, high), np.clip(end, low, high)
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    before = np.maximum.accumulate(np.r_[low, end[:-1]]) if len(end) else end
    return float(np.maximum(end - np.maximum(start, before), 0).sum() / (high - low))


def _windows(ops: pl.DataFrame, zero: int, seed: str) -> Iterator[tuple[int, int]]:
    """Windows of the trace at random places and of random lengths, from all of it to a few operations."""
    rng = random.Random(seed)
    span = int(ops["end_ns"].max()) - zero  # type: ignore[arg-type]
    yield 0, span
    for _ in range(5):
        length = max(int(span * 10 ** rng.uniform(-4.5, -0.2)), 2000)
        middle = int(rng.choice(ops["start_ns"].to_list())) - zero
        yield middle - length // 2, middle + length // 2


@pytest.mark.parametrize("name", TRACES)
def test_pixels_are_shares_of_time(browser: Browser, tmp_path: Path, name: str) -> None:
    """Each lane's coloured pixels, of each kind, against the union of its operations computed here from the trace."""
    trace, analysis = _opened(name, tmp_path)
    zero = analysis.first_op_ns
    assert zero is not None
    page = _load(browser, _write(tmp_path, _shown(trace, analysis)))
    streams = trace.ops.select("device", "pid", "context", "stream").unique().sort("device", "pid", "context", "stream")
    for low, high in _windows(trace.ops, zero, name):
        _go(page, f"#timeline&from={low}&to={high}")
        _compare_all(page, trace, analysis, streams)
    _quiet(page)
    page.close()


def _compare_all(page: Page, trace: Trace, analysis: Analysis, streams: pl.DataFrame) -> None:
    """Every lane of streams, devices and idle time, as it is drawn, against the trace."""
    zero = analysis.first_op_ns
    assert zero is not None
    lanes = page.eval(COUNT)
    view = _view(page)
    drawn = [lane for lane in lanes if lane["role"] == "stream"]
    assert len(drawn) == len(streams)
    for lane, key in zip(drawn, streams.iter_rows(named=True), strict=True):
        mine = trace.ops.filter(pl.all_horizontal(pl.col(k).eq_missing(v) for k, v in key.items()))
        _compare(lane, mine, zero, view)
    for device in analysis.windows["device"].to_list():
        mine = trace.ops.filter(pl.col("device") == device)
        for lane in lanes:
            if lane["role"] == "device" and lane["label"].startswith(f"GPU {device} "):
                _compare(lane, mine, zero, view)
            if lane["role"] == "idle" and lane["label"] == f"GPU {device} idle":
                window = analysis.windows.filter(pl.col("device") == device).row(0)[1:]
                _compare_idle(lane, mine, zero, view, window)


def _compare(lane: dict[str, Any], ops: pl.DataFrame, zero: int, view: tuple[float, float]) -> None:
    start, end = (ops[c].to_numpy().astype(float) - zero for c in ("start_ns", "end_ns"))
    assert "?" not in lane["counts"]
    total = sum(lane["counts"].values()) / lane["all"]
    assert abs(total - _union(start, end, *view)) < 0.02, (lane, view)
    kinds = ops["kind"].cast(pl.String).to_numpy()
    if lane["role"] == "stream" and not ((start[1:] < end[:-1]) & (kinds[1:] != kinds[:-1])).any():
        for kind in set(kinds):
            share = lane["counts"].get(kind, 0) / lane["all"]
            assert abs(share - _union(start[kinds == kind], end[kinds == kind], *view)) < 0.02, (kind, lane, view)


def _compare_idle(
    lane: dict[str, Any], ops: pl.DataFrame, zero: int, view: tuple[float, float], window: tuple[int, int]
) -> None:
    low, high = (t - zero for t in window)
    start, end = (ops[c].to_numpy().astype(float) - zero for c in ("start_ns", "end_ns"))
    inside = max(min(high, view[1]) - max(low, view[0]), 0) / (view[1] - view[0])
    busy = _union(np.clip(start, low, high), np.clip(end, low, high), *view)
    assert abs(sum(lane["counts"].values()) / lane["all"] - (inside - busy)) < 0.02, (lane, view)


def test_thin_copies_do_not_hide_the_kernels(browser: Browser, tmp_path: Path) -> None:
    """1.4 us copies before each of 1,200 kernels of 60 us: the lane is 97 % compute, and looks like it."""
    ops = []
    for i in range(1200):
        at = i * 62_500
        ops += [("h2d", 13, at + 1_000, at + 2_400), ("compute", 13, at + 2_400, at + 63_000)]
    trace = pair.trace(ops, [])
    page = _load(browser, _write(tmp_path, _shown(trace, analyze(trace))))
    (lane,) = [lane for lane in page.eval(COUNT) if lane["role"] == "stream"]
    low, high = _view(page)
    for kind, share in (("compute", 60_600 / 62_500), ("h2d", 1_400 / 62_500)):
        assert lane["counts"][kind] / lane["all"] == pytest.approx(share * 75e6 / (high - low), abs=0.01)
    page.close()


def test_a_short_copy_in_a_long_lane_is_a_line_not_a_bar(browser: Browser, tmp_path: Path) -> None:
    trace = pair.trace(
        [("compute", 7, 0, 10 * MS), ("h2d", 13, 500 * MS, 500 * MS + 800), ("compute", 7, 990 * MS, 1000 * MS)], []
    )
    page = _load(browser, _write(tmp_path, _shown(trace, analyze(trace))))
    lanes = {lane["label"]: lane for lane in page.eval(COUNT)}
    assert lanes["GPU 0 · stream 13"]["counts"].get("h2d", 0) <= 1
    foot = page.eval(
        """(() => { const t = document.getElementById("timeline").timeline;
        const lane = t.lanes.find((one) => one.label === "GPU 0 · stream 13"); const a = t.area(lane);
        const row = t.picture.getContext("2d").getImageData(a.left, a.top + a.height + a.foot, a.width, 1);
        return [...new Uint32Array(row.data.buffer)].filter((p) => p === t.theme.paints[lane.paints[0]].plain).length; })()"""
    )
    assert foot == 1  # and it is seen
    page.close()


def test_gaps_drawn_are_the_ledgers(browser: Browser, tmp_path: Path) -> None:
    trace, analysis = _opened("h200x2_ddp", tmp_path)
    page = _load(browser, _write(tmp_path, _shown(trace, analysis)))
    drawn = page.eval(
        "document.getElementById('timeline').timeline.lanes.filter((l) => l.role === 'idle').map((l) => [l.label, l.sums])"
    )
    ledger = analysis.ledger.filter(pl.col("category") == IDLE).group_by("device", "cause").agg(pl.col("ns").sum())
    for label, sums in drawn:
        device = int(re.findall(r"\d+", label)[0])
        assert sums == dict(ledger.filter(pl.col("device") == device).select("cause", "ns").iter_rows())
    assert len(drawn) == 2
    _quiet(page)
    page.close()


def test_any_trace_adds_up_in_the_page_too(browser: Browser, tmp_path: Path) -> None:
    """Sixty random traces on one page, of operations that overlap, touch and are empty; it compares each with its ledger."""
    rng = random.Random(21)
    shown = []
    for i in range(60):
        ops = []
        for _ in range(rng.randrange(1, 40)):
            start, length = 1000 + rng.randrange(400), rng.choice([0, 1, 5, rng.randrange(80)])
            ops.append(
                (rng.choice(["compute", "h2d", "comm", "memset"]), rng.choice([7, 13, 17]), start, start + length)
            )
        ranges = [(rng.choice("ab"), s := 900 + rng.randrange(400), s + rng.randrange(90)) for _ in range(4)]
        trace = pair.trace(ops, ranges)
        window = rng.choice([None, (1100, 1300)])
        shown.append(Shown(f"v{i}", f"v{i}", trace, analyze(trace, window=window)))
    page = _load(browser, _write(tmp_path, *shown))
    assert page.eval("document.querySelectorAll('.tl-trace').length") == 60
    _quiet(page)
    page.close()


def test_a_ledger_that_differs_is_said(browser: Browser, tmp_path: Path) -> None:
    trace = pair.baseline()
    found = analyze(trace, variant="v", window="measured")
    idle = pl.col("category") == IDLE
    more = found.ledger.with_columns(pl.when(idle).then(pl.col("ns") + 1).otherwise(pl.col("ns")).alias("ns"))
    page = _load(
        browser, _write(tmp_path, _shown(trace, Analysis.of({**found.tables(), "ledger": more}, **_facts(found))))
    )
    said = page.eval("document.querySelector('.tl-problems').textContent")
    assert "the gaps drawn sum to" in said and "Trust the ledger" in said
    page.close()


def _facts(found: Analysis) -> dict[str, Any]:
    names = ("variant", "meta", "choices", "steady", "first_op_ns", "other_names")
    return {name: getattr(found, name) for name in names}


def test_sums_are_drawn_where_operations_are_too_many(browser: Browser, tmp_path: Path) -> None:
    trace, analysis = _opened("h100_pipeline_decode", tmp_path)
    assert analysis.first_op_ns is not None
    page = _load(browser, _write(tmp_path, _shown(trace, analysis), most_ops=300, most_calls=300))
    width = page.eval("document.getElementById('timeline').timeline.sides[0].header.grid.width")
    streams = trace.ops.select("device", "pid", "context", "stream").unique().sort("device", "pid", "context", "stream")
    seen = 0
    for low, high in _windows(trace.ops, analysis.first_op_ns, "sums"):
        if high - low > 200 * width:  # inside of a bin, sums say nothing of when
            _go(page, f"#timeline&from={low}&to={high}")
            _compare_all(page, trace, analysis, streams)
            seen += 1
    assert seen > 1
    assert page.eval("document.getElementById('timeline').timeline.lanes.some((lane) => lane.isSummed(0, 1e9))")
    _quiet(page)
    page.close()


def test_wheel_drag_and_keys_move_the_view(browser: Browser, tmp_path: Path) -> None:
    page = _load(browser, _pair(tmp_path), "#timeline")
    assert _view(page) == pytest.approx((-0.2 * MS, 20.2 * MS))  # both variants' two iterations, aligned
    x, y, width = page.eval(
        "(({left, top, width}) => [left, top, width])(document.querySelector('.tl-over').getBoundingClientRect())"
    )
    gutter = page.eval("document.getElementById('timeline').timeline.gutter")
    x, width = x + gutter, width - gutter
    page.wheel(x + width / 4, y + 60, -400)
    page.until("document.getElementById('timeline').timeline.to < 19e6")
    low, high = _view(page)
    assert high - low == pytest.approx(20.4 * MS * np.exp(-0.6), rel=1e-3)
    assert low + (high - low) / 4 == pytest.approx(4.9 * MS, rel=1e-2)  # the instant under the pointer stays
    page.drag(x + 400, y + 60, -100)
    assert _view(page)[0] == pytest.approx(low + 100 * (high - low) / width, rel=1e-2)
    low, high = _view(page)
    page.drag(x + width / 4, y + 60, width / 2, modifiers=8)
    assert _view(page) == pytest.approx((low + (high - low) / 4, high - (high - low) / 4), rel=2e-2)
    page.eval("document.querySelector('.tl-frame').focus()")
    steps = {"w": 0.6, "s": 1 / 0.6, "+": 0.6, "-": 1 / 0.6, "ArrowUp": 0.6, "ArrowDown": 1 / 0.6}
    for key, factor in steps.items():
        low, high = _view(page)
        page.key(key)
        after = _view(page)
        assert after[1] - after[0] == pytest.approx((high - low) * factor, rel=1e-3), key
    for key, share in {"d": 0.25, "a": -0.25, "ArrowRight": 0.25, "ArrowLeft": -0.25}.items():
        low, high = _view(page)
        page.key(key)
        assert _view(page)[0] == pytest.approx(low + share * (high - low), abs=2), key
    page.key("0")
    assert _view(page) == pytest.approx((-0.2 * MS, 20.2 * MS))
    _quiet(page)
    page.close()


def test_hover_and_click_tell_what_an_operation_is(browser: Browser, tmp_path: Path) -> None:
    page = _load(browser, _pair(tmp_path), "#timeline")
    box = """(role, item, side = 1) => { const t = document.getElementById("timeline").timeline;
      const lane = t.sides[side].lanes.find((one) => one.role === "stream" && one.label.includes(role));
      const [x, y, w, h] = t.box(lane, item); const over = t.over.getBoundingClientRect();
      return [over.left + x + w / 2, over.top + y + h / 2]; }"""
    x, y = page.eval(f"({box})('stream 13', 1)")
    page.mouse("mouseMoved", x, y)
    tip = page.until("!document.querySelector('.tl-tip').hidden && document.querySelector('.tl-tip').textContent")
    for word in (
        "duration: 3.000 ms (3,000,000 ns)",
        "bytes: 50.00 MB",
        "rate: 16.67 GB/s",
        "pinned to device",
        "+6ms",
    ):
        assert word in tip, tip
    assert (
        "launched by: cudaMemcpyAsync on main 11" in tip and "delay: 1.000 µs after the call began, 0 after it" in tip
    )
    page.click(x, y)
    details = page.eval("document.querySelector('.tl-details').innerText")
    assert "optimized" in details and "cudaMemcpyAsync" in details and "Go to the call" in details
    launch = page.eval(
        "(() => { const t = document.getElementById('timeline').timeline;"
        "const call = t.launch(t.pinned.lane, t.pinned.item); return [call.lane.role, t.title(call.lane, call.item)]; })()"
    )
    assert launch == ["calls", "cudaMemcpyAsync"]
    page.eval("document.querySelector('.tl-frame').focus()")
    page.key(",")
    assert "+0ms" in page.eval("document.querySelector('.tl-details').textContent")
    page.key("Escape")
    assert page.eval("document.querySelector('.tl-details').hidden")
    x, y = page.eval(f"({box.replace('stream', 'idle')})('idle', 0)")
    page.mouse("mouseMoved", x, y)
    assert "cause: " in page.until("document.querySelector('.tl-tip').textContent")
    _quiet(page)
    page.close()


def test_search_and_filter_leave_the_rest_pale(browser: Browser, tmp_path: Path) -> None:
    page = _load(browser, _pair(tmp_path), "#timeline&find=gemm")
    said = page.eval("document.querySelector('.tl-state').textContent")
    assert said.startswith("8 operations match, 14.00 ms in sum")
    lanes = {(i, lane["label"]): lane["counts"] for i, lane in enumerate(page.eval(COUNT)) if lane["role"] == "stream"}
    assert all(set(counts) <= {"compute", "filtered out"} for counts in lanes.values())
    assert sum(counts.get("filtered out", 0) for counts in lanes.values()) > 0
    page.eval("document.querySelector('.tl-search input').focus()")
    page.key("Enter")
    assert "match 1 of 8" in page.eval("document.querySelector('.tl-state').textContent")
    # Aligned, in ms: optimized 2, 4, 8, 10, baseline 5, 7, 15, 17.
    place = "(({pinned: {lane, item}, origin}) => lane.items.start[item])(document.getElementById('timeline').timeline)"
    seen = [page.eval(place)]
    for _ in range(8):
        page.key("Enter")
        seen.append(page.eval(place))
    # From each trace's first operation, which comes 1 ms after its iteration 0 begins.
    assert seen == [at * MS for at in (1, 3, 4, 6, 7, 9, 14, 16, 1)]
    page.eval("document.querySelector('[data-do=previous]').click()")
    assert "match 8 of 8" in page.eval("document.querySelector('.tl-state').textContent")
    assert "gemm" in page.eval("document.querySelector('.tl-details h3').textContent")
    page.eval("[...document.querySelectorAll('.tl-state button')].forEach((b) => b.click())")
    assert page.eval("document.querySelector('.tl-state').textContent").startswith(
        "baseline: 6 operations, 2 iterations"
    )
    _go(page, "#timeline&stage=iteration/h2d")
    assert page.eval("document.querySelector('.tl-state').textContent").startswith("4 operations match")
    _go(page, "#timeline&kernel=gemm&stage=iteration/h2d")
    assert page.eval("document.querySelector('.tl-state').textContent").startswith("0 operations match")
    for text, said in (
        ("memcpyasync", "4 calls match"),
        ("COMPUTE", "8 operations match"),
        ("launch_api", "gaps match"),
    ):
        _go(page, f"#timeline&find={text}")
        assert said in page.eval("document.querySelector('.tl-state').textContent")
    _quiet(page)
    page.close()


def test_kernels_go_by_their_short_names_too(browser: Browser, tmp_path: Path) -> None:
    kernel = "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8>(Params)"
    page = _load(browser, _pair(tmp_path, kernel), "#timeline")
    short, cut = "cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128_32x4_nn_align8", f"{kernel[:20]}…{kernel[-9:]}"
    for name in (kernel, short, cut):
        _go(page, f"#timeline&kernel={quote(name)}")
        assert page.eval("document.querySelector('.tl-state').textContent").startswith("8 operations match"), name
    _go(page, "#timeline&kernel=no%20such%20kernel")
    assert page.eval("document.querySelector('.tl-state').textContent").startswith("0 operations match")
    _quiet(page)
    page.close()


def test_threads_that_did_nothing_in_the_window_are_offered_not_drawn(browser: Browser, tmp_path: Path) -> None:
    trace, analysis = _opened("h200x2_ddp", tmp_path)
    page = _load(browser, _write(tmp_path, _shown(trace, analysis)))
    lanes = "document.getElementById('timeline').timeline.lanes.length"
    button = "document.querySelector('[data-do=quiet]')"
    few = page.eval(lanes)
    assert re.fullmatch(r"Show \d+ quiet threads", page.eval(f"{button}.textContent"))
    page.eval(f"{button}.click()")
    assert page.eval(lanes) > few and page.eval(f"{button}.textContent").startswith("Hide")
    page.eval(f"{button}.click()")
    assert page.eval(lanes) == few
    page.close()


def test_links_set_the_view_and_the_view_writes_the_link(browser: Browser, tmp_path: Path) -> None:
    place = _pair(tmp_path)
    page = _load(browser, place, "#timeline&trace=optimized&from=2000000&to=4000000")
    low, _ = _view(page)
    # The optimised variant's iteration 0 begins 1 ms before its first operation, which is where the axis begins.
    assert low == pytest.approx(3 * MS)
    assert page.eval("document.getElementById('timeline').getBoundingClientRect().top") < 80
    page.eval(
        "document.body.insertAdjacentHTML('beforeend', "
        "'<a id=link href=\"#timeline&amp;trace=baseline&amp;from=1000000&amp;to=5000000&amp;kernel=gemm\">x</a>')"
    )
    page.eval("document.getElementById('link').click()")
    page.until("document.getElementById('timeline').timeline.filter.kernel === 'gemm'")
    assert _view(page) == pytest.approx((2 * MS, 6 * MS))
    page.eval("document.querySelector('.tl-frame').focus()")
    page.key("w")
    hash_ = page.until(
        "location.hash.includes('kernel=gemm') && !location.hash.includes('to=5000000') && location.hash"
    )
    given = {k: v[0] for k, v in parse_qs(hash_.removeprefix("#timeline&")).items()}
    assert (given["trace"], given["align"]) == ("baseline", "iteration")
    view = _view(page)
    page.close()
    again = _load(browser, place, hash_)
    assert (
        _view(again) == pytest.approx(view, abs=2)
        and again.eval("document.getElementById('timeline').timeline.filter.kernel") == "gemm"
    )
    again.close()


def test_variants_are_aligned_by_iteration_or_by_first_operation(browser: Browser, tmp_path: Path) -> None:
    page = _load(browser, _pair(tmp_path), "#timeline")
    starts = """document.getElementById("timeline").timeline.sides.map((side) => {
      const lane = side.lanes.find((one) => one.role === "iterations");
      return lane.items.start[1] - document.getElementById("timeline").timeline.origin(side); })"""
    assert page.eval(starts) == [10 * MS, 6 * MS]  # iteration 0 of both begins at 0
    page.eval("document.querySelector('[data-do=later]').click()")
    assert page.eval(starts) == [0, 0]
    page.eval(
        "(() => { const s = document.querySelector('.tl-align select'); s.value = 'start';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    assert page.eval(starts) == [9 * MS, 5 * MS]
    _quiet(page)
    page.close()


@pytest.mark.parametrize("width", [390, 1920])
def test_it_fits_narrow_and_wide_screens(browser: Browser, tmp_path: Path, width: int) -> None:
    page = _load(browser, _pair(tmp_path), "#timeline", width)
    assert (
        page.eval("document.getElementById('timeline').scrollWidth - document.getElementById('timeline').clientWidth")
        <= 0
    )
    assert page.eval("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.close()


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    traces = {"baseline": pair.baseline(HOSTILE), "optimized": pair.optimized(HOSTILE)}
    analyses = [analyze(t, variant=n, window="measured") for n, t in traces.items()]
    place = tmp_path / "report.html"
    place.write_text(render(pair.run(tmp_path), analyses, traces, []), encoding="utf-8")
    page = _load(browser, place, f"#timeline&find={quote(HOSTILE)}&trace={quote(HOSTILE)}")
    assert (
        page.eval("document.title") != "owned" and page.eval("document.querySelectorAll('#timeline img').length") == 0
    )
    assert page.eval("document.querySelector('.tl-state').textContent").startswith("8 operations match")
    page.eval("document.getElementById('timeline').timeline.step(1)")
    assert "onerror" in page.eval("document.querySelector('.tl-details h3').textContent")
    _quiet(page)
    page.close()


def test_a_real_run_is_drawn(browser: Browser, tmp_path: Path) -> None:
    """Three variants in one page, with the figures and the policy of a run's report."""
    source = find_source(SAMPLES / "h200_pipeline_sequential")
    opened = list(source.open(Asked(gaps=500)))
    place = tmp_path / "run.html"
    place.write_text(render(source.run, [o.analysis for o in opened], {o.side: o.trace for o in opened}))
    page = _load(browser, place, "#timeline")
    assert page.eval("document.querySelectorAll('.tl-trace').length") == 3
    _quiet(page)
    page.close()


def test_a_million_operations(browser: Browser, tmp_path: Path) -> None:
    """Goals: 8 MB, 1.5 s of the main thread until it is ready, 60 ms of processor a zoom step. The gate is at twice the times."""
    file = tmp_path / "big.sqlite"
    generate(file, kernels=1_000_000, processes=2, devices=2, seed=0)
    (one,) = Source(None, file).open(Asked(steady=True))
    assert len(one.trace.ops) > 1_000_000
    place = tmp_path / "big.html"
    place.write_text(render(None, [one.analysis], {one.side: one.trace}), encoding="utf-8")
    before = processor_seconds(browser, main_threads=True)
    page = _load(browser, place, "#timeline")
    ready = processor_seconds(browser, main_threads=True) - before
    x, y = page.eval("(({left, top}) => [left, top])(document.querySelector('.tl-over').getBoundingClientRect())")
    page.eval("document.querySelector('[data-do=all]').click()")
    spent = []
    for step in range(30):
        low, _ = _view(page)
        before = processor_seconds(browser)
        page.wheel(x + 700, y + 100, -200 if step % 15 < 12 else 750)
        page.until(f"document.getElementById('timeline').timeline.from !== {low!r}")
        page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        spent.append(processor_seconds(browser) - before)
    _quiet(page)
    page.close()
    megabytes, zoom = place.stat().st_size / 1e6, float(np.median(spent))
    print(f"{megabytes:.2f} MB, ready after {ready:.2f} s of the main thread, {zoom * 1e3:.0f} ms a zoom step")
    assert megabytes < 8 and ready < 3.0 and zoom < 0.12
