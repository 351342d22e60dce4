"""A headless Chromium that is told what to do over a pipe (Chrome DevTools Protocol), so that tests act as a person would.

It gets a proxy that does not exist: any request would fail, and `Page.requests` lists every one that was tried.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aisp_trace.tests.patience import PATIENCE_S, wait_until

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


class Browser:
    """One Chromium; `open` gives a page."""

    def __init__(self, folder: Path) -> None:
        (given, write), (read, taken) = os.pipe(), os.pipe()

        def as_three_and_four() -> None:
            os.dup2(os.dup(given), 63)
            os.dup2(os.dup(taken), 62)
            os.dup2(63, 3)
            os.dup2(62, 4)

        command = [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ),
            *("--proxy-server=127.0.0.1:9", f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank"),
        ]
        self.process = subprocess.Popen(
            command, preexec_fn=as_three_and_four, close_fds=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        os.close(given)
        os.close(taken)
        self._write, self._read, self._rest, self._number = write, read, b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer to a command; what else arrives meanwhile is kept in `events`. Raises `RuntimeError` for an error."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self.next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def next(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next message. Raises `TimeoutError` where none comes."""
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], timeout_s)[0]:
                raise TimeoutError("Chromium does not answer")
            got = os.read(self._read, 1 << 20)
            if not got:
                raise RuntimeError("Chromium has gone")
            self._rest += got
        one, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(one))

    def open(self, page: Path, width: int = 1200, height: int = 1000, fragment: str = "") -> Page:
        """`page` in a tab of its own, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        opened = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.call(f"{domain}.enable")
        opened.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        opened.call("Page.navigate", url=page.as_uri() + fragment)
        return opened

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command of this tab."""
        return self._browser.call(method, self._session, **params)

    def eval(self, script: str) -> Any:
        """The value of an expression, awaited. Raises `RuntimeError` where it throws."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "it threw"))
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        return wait_until(lambda: self.eval(script), script)

    def ready(self) -> None:
        """Wait for the timeline, drawn."""
        self.until(
            "document.getElementById('timeline')?.dataset.ready || document.getElementById('timeline')?.dataset.failed"
        )

    def mouse(self, kind: str, x: float, y: float, **params: Any) -> None:
        """A mouse event at a point of the viewport."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **params)

    def wheel(self, x: float, y: float, turned: float) -> None:
        """One turn of the wheel."""
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=turned)

    def drag(self, x: float, y: float, by: float, modifiers: int = 0) -> None:
        """The left button held and moved sideways; modifiers 8 is Shift."""
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1, modifiers=modifiers)
        for part in (0.5, 1.0):
            self.mouse("mouseMoved", x + by * part, y, button="left", buttons=1, modifiers=modifiers)
        self.mouse("mouseReleased", x + by, y, button="left", clickCount=1, modifiers=modifiers)

    def click(self, x: float, y: float) -> None:
        """A click of the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, key: str) -> None:
        """A key pressed and released, where the focus is."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, file: Path, whole: bool = False) -> None:
        """What the tab shows, as PNG; the `whole` page or what is in view."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def _events(self, method: str) -> Iterator[dict[str, Any]]:
        self.eval("0")  # what came before this answer has arrived
        for event in self._browser.events:
            if event.get("sessionId") == self._session and event["method"] == method:
                yield event["params"]

    def console(self) -> list[str]:
        """What was logged, thrown or reported so far."""
        said = [entry["entry"]["text"] for entry in self._events("Log.entryAdded")]
        said += [str(one["args"]) for one in self._events("Runtime.consoleAPICalled")]
        return said + [str(one["exceptionDetails"]) for one in self._events("Runtime.exceptionThrown")]

    def requests(self) -> list[str]:
        """Every URL that was asked for, the page's own aside."""
        urls = [one["request"]["url"] for one in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("file:") or not url.split("#")[0].endswith(".html")]

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def running(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`, ended afterwards."""
    browser = Browser(folder)
    try:
        yield browser
    finally:
        browser.close()


def processor_seconds(browser: Browser, main_threads: bool = False) -> float:
    """What the browser's processes have used so far, or only the main threads of those that run pages. It is processor time, so
    that a busy machine changes little; 10 ms exact."""
    below = {browser.process.pid}
    pids = [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]
    parents = {pid: int(stat[1]) for pid in pids if (stat := _stat(f"/proc/{pid}"))}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    ticks = 0
    for pid in below:
        place = f"/proc/{pid}"
        if main_threads:
            if b"--type=renderer" not in _read(f"{place}/cmdline"):
                continue
            place = f"{place}/task/{pid}"
        if stat := _stat(place):
            ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(place: str) -> list[str]:
    """The fields of a process or thread from its state on; none where it has gone."""
    text = _read(f"{place}/stat").decode(errors="replace")
    return text.rsplit(")", 1)[1].split() if ")" in text else []


def _read(place: str) -> bytes:
    try:
        return Path(place).read_bytes()
    except OSError:
        return b""
