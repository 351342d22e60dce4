"""The page in a real browser: it draws without the network and without complaint.

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


def _load(page: Path, folder: Path, width: int = 1200) -> tuple[str, list[str]]:
    """The page's DOM once its scripts ran, and what the console said."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
        *("--proxy-server=127.0.0.1:9", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1600"),
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
    assert re.search(r'<section id="timeline"[^>]*data-ready="', dom) and "GPU 0 · stream 13</div>" in dom


def test_a_hostile_kernel_name_runs_nothing(tmp_path: Path) -> None:
    dom, console = _load(_write(tmp_path, HOSTILE), tmp_path)
    assert console == []
    assert "<title>pair on NVIDIA H100 80GB HBM3 · aisp-trace</title>" in dom and "<img" not in dom


def test_the_policy_stops_a_script_that_is_not_the_pages_own(tmp_path: Path) -> None:
    page = _write(tmp_path)
    page.write_text(page.read_text().replace("</body>", "<script>document.title='owned'</script></body>"))
    dom, console = _load(page, tmp_path)
    assert "<title>owned" not in dom and any("Content Security Policy" in line for line in console)
