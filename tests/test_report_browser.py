"""The page in a real browser: it draws without the network, without complaint, and obeys the keyboard.

Chromium gets a proxy that does not exist, so that any request would fail and be reported on the console.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aisp_trace.analyze.analyze import analyze
from aisp_trace.report.page.page import render
from aisp_trace.tests.builders import pair

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_S = 120

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH: the page was not loaded in a browser"
)

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

# Appended to a copy of the page (whose policy is taken out for it): presses keys as a person would.
DRIVER = """
<script>
const begun = setInterval(() => {
  const place = document.getElementById("timeline-1");
  place.scrollIntoView({ behavior: "instant" });
  if (!place.layout) return;
  clearInterval(begun);
  const seen = () => place.layout.xaxis.range.map(Number).map((v) => v.toFixed(2)).join("..");
  const press = (key) => place.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const log = [seen()];
  for (const key of ["+", "ArrowRight", "0"]) { press(key); log.push(seen()); }
  document.querySelector("button[data-scale=own]").click(); log.push(seen());
  document.body.dataset.log = log.join(" ");
  document.body.dataset.overflow = String(document.documentElement.scrollWidth - window.innerWidth);
}, 200);
</script>
"""


def _load(page: Path, folder: Path, width: int = 1200) -> tuple[str, list[str]]:
    """The page's DOM once its scripts ran, and what the console said."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
        *("--proxy-server=127.0.0.1:9", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},4000"),
        *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=6000", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
    errors = done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace"), re.findall(r".*:CONSOLE.*", errors)


def _write(folder: Path, kernel: str = "gemm") -> Path:
    traces = {"baseline": pair.baseline(kernel), "optimized": pair.optimized(kernel)}
    analyses = [analyze(t, variant=n, window="measured", largest_gaps=500) for n, t in traces.items()]
    place = folder / "report.html"
    place.write_text(render(pair.run(folder), analyses, traces, []), encoding="utf-8")
    return place


def test_it_draws_offline_without_a_word_on_the_console(tmp_path: Path) -> None:
    dom, console = _load(_write(tmp_path), tmp_path)
    assert console == []
    for figure in ("timeline-0", "timeline-1"):
        assert re.search(rf'<div class="figure[^>]*id="{figure}"[^>]*data-drawn="[1-9]', dom), figure
    bars = re.findall(r'<g class="point">', dom)
    assert len(bars) >= 6 + 6 + 4  # both variants' ops, and their idle gaps
    assert "GPU 0 · stream 13</text>" in dom


def test_a_hostile_kernel_name_runs_nothing(tmp_path: Path) -> None:
    dom, console = _load(_write(tmp_path, HOSTILE), tmp_path)
    assert console == []
    assert "<title>pair on NVIDIA H100 80GB HBM3 · aisp-trace</title>" in dom and "<img" not in dom


def test_the_policy_stops_a_script_that_is_not_the_pages_own(tmp_path: Path) -> None:
    page = _write(tmp_path)
    page.write_text(page.read_text().replace("</body>", "<script>document.title='owned'</script></body>"))
    dom, console = _load(page, tmp_path)
    assert "<title>owned" not in dom and any("Content Security Policy" in line for line in console)


def test_it_obeys_keys_and_buttons_and_never_scrolls_sideways(tmp_path: Path) -> None:
    page = _write(tmp_path)
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(), count=1)
    page.write_text(text.replace("</body>", DRIVER + "</body>"))
    for width in (1200, 520):
        dom, _ = _load(page, tmp_path, width)
        said = re.findall(r'data-log="([^"]*)"', dom)
        # Both views share 20 ms and begin 1 ms before the first operation; + halves it around the middle, → moves a quarter,
        # 0 resets, "own" is 12 ms.
        assert said == ["-1.00..19.00 4.00..14.00 6.50..16.50 -1.00..19.00 -1.00..11.00"]
        assert int(re.findall(r'data-overflow="([^"]*)"', dom)[0]) <= 0
