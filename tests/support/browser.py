"""A real browser, spoken to by the DevTools protocol over a pipe (https://chromedevtools.github.io/devtools-protocol/).

What a page asks of a network and what it complains of is kept from its first moment on.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 120.0  # of patience with a busy machine
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --no-default-browser-check --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --disable-dev-shm-usage --hide-scrollbars --disable-lcd-text --remote-debugging-pipe"
).split()
KEYS = {
    "Enter": ("\r", 13),
    "Escape": ("", 27),
    "ArrowLeft": ("", 37),
    "ArrowDown": ("", 40),
    "Tab": ("", 9),
    " ": (" ", 32),
}
SHIFT, CONTROL = 8, 2


class Browser:
    """A running Chromium; `call` is one command of the protocol."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium")
        assert program is not None, "chromium is not there; .ci/setup installs it"
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The browser reads from 3 and writes to 4; bash puts them there, from where neither lies.
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, 20) for each in (theirs_in, theirs_out)]
        shell = f'exec "$@" 3<&{high[0]} 4>&{high[1]} >/dev/null 2>&1'
        argv = ["bash", "-c", shell, "bash", program, *OPTIONS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(argv, pass_fds=high)
        for each in (theirs_in, theirs_out, *high):
            os.close(each)
        self._buffer = b""
        self._number = 0
        self.pages: dict[str, Page] = {}

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a command; what the browser tells in between goes to its page."""
        self._number += 1
        number = self._number
        words = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(words).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            said = self._next(end, method)
            if said.get("id") == number:
                assert "error" not in said, (method, parameters, said["error"])
                return said["result"]

    def wait(self, page: "Page", method: str) -> None:
        """Until a page has told of an event."""
        end = time.monotonic() + SECONDS
        while method not in page.events:
            self._next(end, method)

    def _next(self, end: float, what: str) -> Any:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the browser did not answer to {what}"
            data = os.read(self._in, 1 << 20)
            assert data, f"the browser has ended; it was asked for {what}"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        said = json.loads(message)
        if "method" in said and (page := self.pages.get(said.get("sessionId", ""))):
            page.told(said["method"], said["params"])
        return said

    def open(
        self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False, phone: bool = False
    ) -> "Page":
        """A page in a new tab, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        page.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call(
            "Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]
        )
        page.call("Page.addScriptToEvaluateOnNewDocument", source=LONG_TASKS)
        page.events.clear()
        page.requests.clear()
        page.call("Page.navigate", url=url)
        self.wait(page, "Page.loadEventFired")
        return page

    def close(self) -> None:
        with suppress(AssertionError, BrokenPipeError):
            self.call("Browser.close")
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)


LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((each) => each.duration)))
  .observe({ type: "longtask", buffered: true });
"""


@dataclass
class Page:
    """One tab. `requests` are the URLs that it asked for, `problems` what it complained of, `events` what it told of."""

    browser: Browser
    session: str
    target: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> Any:
        return self.browser.call(method, self.session, **parameters)

    def told(self, method: str, what: dict[str, Any]) -> None:
        self.events.append(method)
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(what["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(what["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.problems.append(str(what["args"]))
            case "Log.entryAdded":
                self.problems.append(f"{what['entry']['level']}: {what['entry']['text']}")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of the promise that it gives."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The text of each element, as it is seen."""
        found: list[str] = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText ?? each.textContent)"
        )
        return found

    def text(self, selector: str) -> str:
        (found,) = self.texts(selector)
        return found

    def settle(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")

    def middle(self, selector: str, place: int = 0) -> tuple[float, float]:
        """The middle of an element, which is scrolled to, in pixels of the window."""
        box = self.evaluate(
            f"(() => {{ const each = document.querySelectorAll({json.dumps(selector)})[{place}];"
            " each.scrollIntoView({ block: 'center' }); const box = each.getBoundingClientRect();"
            " return [box.left + box.width / 2, box.top + box.height / 2]; })()"
        )
        return box[0], box[1]

    def click(self, selector: str, place: int = 0) -> None:
        self.click_at(*self.middle(selector, place))

    def click_at(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)
        self.settle()

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        x, y = start
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        for step in range(1, 11):
            self.mouse("mouseMoved", x + by[0] * step / 10, y + by[1] * step / 10, button="left", buttons=1)
        self.mouse("mouseReleased", x + by[0], y + by[1], button="left", clickCount=1)
        self.settle()

    def wheel(self, x: float, y: float, by: float, modifiers: int = 0) -> None:
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=by, modifiers=modifiers)
        self.settle()

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Fingers: `touchStart`, `touchMove` or `touchEnd`."""
        rows = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=rows)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field, in the place of what is there."""
        self.evaluate(
            f"(() => {{ const each = document.querySelector({json.dumps(selector)}); each.focus(); each.select(); }})()"
        )
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.press("Delete", 46)
        self.settle()

    def press(self, key: str, code: int = 0, modifiers: int = 0) -> None:
        """Press a key; a character by itself."""
        text, known = KEYS.get(key, (key if len(key) == 1 else "", code))
        words = {"key": key, "windowsVirtualKeyCode": known, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **words, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **words)
        self.settle()

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        self.settle()
        done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(done["data"]))

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)
        del self.browser.pages[self.session]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile, for as long as the context lasts."""
    found = Browser(profile)
    try:
        yield found
    finally:
        found.close()
