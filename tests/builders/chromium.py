"""Headless Chromium: a page loaded without a network, driven by a script, looked at, and printed.

It gets a proxy that does not exist, so that any request would fail and be reported on the console.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aisp_trace.report.page.bundle import hash_of

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_S: Final = 120

NARROWEST: Final = 500
"""Pixels: a window is never narrower, so narrower pages stand in a frame."""

SCREENSHOTS: Final = "AISP_SCREENSHOTS"
"""Environment variable that names a folder in which screenshots are kept."""


def run(page: Path, folder: Path, options: Sequence[str], width: int, height: int) -> tuple[str, list[str]]:
    """What Chromium wrote, and what the console said."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
        *("--proxy-server=127.0.0.1:9", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"),
        *("--enable-logging=stderr", "--v=0", "--hide-scrollbars", "--virtual-time-budget=9000", *options),
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
    errors = done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "replace"), re.findall(r".*:CONSOLE.*", errors)


def load(
    page: Path, folder: Path, width: int = 1200, height: int = 1600, *, dark: bool = False
) -> tuple[str, list[str]]:
    """The page's DOM once its scripts ran, and what the console said."""
    return run(page, folder, ["--dump-dom", *(_DARK if dark else ())], width, height)


def drive(
    page: Path, folder: Path, script: str, width: int = 1200, height: int = 1600
) -> tuple[dict[str, str], list[str]]:
    """What `script` wrote into ``document.body.dataset``, and what the console said.

    The script is added to a copy of the page, and its hash to the copy's policy, which stays as strict as it was.
    """
    text = page.read_text(encoding="utf-8")
    script += '; if (parent !== window) setInterval(() => parent.postMessage({ ...document.body.dataset }, "*"), 200);'
    allowed = text.replace("script-src ", f"script-src 'sha256-{hash_of(script)}' ", 1)
    driven = page.with_name(f"driven-{page.name}")
    driven.write_text(allowed.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    dom, console = load(_framed(driven, width, height) if width < NARROWEST else driven, folder, width, height)
    (body,) = re.findall(r"<body([^>]*)>", dom)
    return dict(re.findall(r'data-([a-z-]+)="([^"]*)"', body)), console


def screenshot(page: Path, folder: Path, name: str, width: int, height: int, *, dark: bool = False) -> Path:
    """A picture of the page, in the folder that `SCREENSHOTS` names or else in `folder`."""
    kept = Path(os.environ.get(SCREENSHOTS) or folder)
    kept.mkdir(parents=True, exist_ok=True)
    target = kept / f"{name}-{width}{'-dark' if dark else ''}.png"
    shown = _framed(page, width, height) if width < NARROWEST else page
    run(shown, folder, [f"--screenshot={target}", *(_DARK if dark else ())], width, height)
    return target


def printed_pages(page: Path, folder: Path) -> int:
    """How many sheets the page takes on paper."""
    target = folder / "printed.pdf"
    run(page, folder, [f"--print-to-pdf={target}", "--no-pdf-header-footer"], 1200, 1600)
    return len(re.findall(rb"/Type\s*/Page\b", target.read_bytes()))


def _framed(page: Path, width: int, height: int) -> Path:
    """A document with `page` in a frame of that width; what the framed page posts comes into the document's own dataset."""
    frame = page.with_name(f"frame-{width}-{page.name}")
    frame.write_text(
        f'<body style="margin:0"><iframe src="{page.name}" style="border:0;width:{width}px;height:{height}px"></iframe><script>'
        'addEventListener("message", ({ data }) => Object.assign(document.body.dataset, data));</script></body>'
    )
    return frame


_DARK: Final = ("--blink-settings=preferredColorScheme=0",)
