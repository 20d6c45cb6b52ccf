"""Chromium without a window, driven over two pipes by the DevTools protocol.

Source: chromedevtools.github.io/devtools-protocol. Messages are JSON, each followed by a NUL; the browser reads from
its descriptor 3 and writes to 4 (``--remote-debugging-pipe``). It asks nothing of the network.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.timing import seconds

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-breakpad", "--disable-crash-reporter", "--no-default-browser-check", "--hide-scrollbars"),
    *("--no-zygote", "--disable-features=SpareRendererForSitePerProcess,Vulkan", "--remote-debugging-pipe"),
)
_LIMIT = 60  # seconds for one answer, on a machine that has much else to do

# The texts that cannot be read well: below a contrast of 4.5 (WCAG 2.2, 1.4.3).
PALE = """
(() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    const picture = element.closest("svg");
    if (picture) return getComputedStyle(picture.querySelector(".bg")).fill;
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (numbers(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || ["STYLE", "TITLE", "style", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const [one, two] = [light(element.closest("svg") ? style.fill : style.color), light(ground(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) found.add(`${contrast.toFixed(2)}: ${node.data.trim().slice(0, 40)}`);
  }
  return [...found];
})()
"""


class Browser:
    """One process of the browser with a profile of its own below ``directory``, and one page in it."""

    def __init__(self, directory: Path) -> None:
        self._number, self._session, self._rest = 0, "", b""
        self.asked: list[str] = []  # addresses that the page has asked for
        self.said: list[str] = []  # what the browser has to say about the page: errors, breaches of its policy
        program = shutil.which("chromium")
        assert program is not None, "the test needs program:chromium"
        theirs, self._to = os.pipe()
        self._from, their_end = os.pipe()
        self._log = directory / "chromium.log"
        with self._log.open("wb") as log:
            # Above what the browser expects them to be: one duplicate must not cover the other.
            high = [os.dup(fd) for fd in (theirs, their_end)]
            while min(high) < 5:
                high = [os.dup(fd) for fd in high]
            actions = [
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ]
            words = [program, *_FLAGS, f"--user-data-dir={directory / 'profile'}", "about:blank"]
            environment = {**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
            self.pid = os.posix_spawn(program, words, environment, file_actions=actions, setpgroup=0)
        for fd in (theirs, their_end, *high):
            os.close(fd)

    def __enter__(self) -> Self:
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all that it has started."""
        self._session = ""
        with suppress(OSError, AssertionError):
            self._send("Browser.close")
        os.close(self._to)
        deadline = time.monotonic() + seconds(10)
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.01)
        os.close(self._from)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # helpers of its own group

    def show(self, file: Path, width: int, height: int = 800, scheme: str = "light", media: str = "screen") -> None:
        """Load a file at a size in CSS pixels, with a colour scheme preferred."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)
        self._call("Page.navigate", url=file.as_uri())
        deadline = time.monotonic() + seconds(_LIMIT)
        while self.ask("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, f"{file} has not been loaded"
            time.sleep(0.02)

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page; the page's own policy does not bind it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Follow a link, as a person does."""
        self.ask(f"document.querySelector({json.dumps(selector)}).click()")

    def screenshot(self, file: Path | None = None) -> bytes:
        """What is seen, as PNG."""
        data = base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])
        if file is not None:
            file.write_bytes(data)
        return data

    def _send(self, method: str, **values: object) -> int:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    def _call(self, method: str, **values: object) -> dict[str, Any]:
        number = self._send(method, **values)
        while True:
            answer = json.loads(self._receive())
            self._note(answer)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params") or {}
        if event.get("method") == "Network.requestWillBeSent":
            self.asked.append(values["request"]["url"])
        elif event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.said.append(json.dumps(values))

    def _receive(self) -> bytes:
        deadline = time.monotonic() + seconds(_LIMIT)
        while b"\0" not in self._rest:
            ready = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))[0]
            data = os.read(self._from, 1 << 20) if ready else b""
            assert data, f"chromium said nothing: {self._log.read_text(errors='replace')[-2000:]}"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return message


def seen(browser: Browser, file: Path, width: int, scheme: str, media: str = "screen") -> None:
    """Load a page, and check what holds for each at every size."""
    browser.show(file, width, 900, scheme, media)
    directory = os.environ.get("GOSUDACON_TEST_SCREENSHOTS")
    if directory:
        os.makedirs(directory, exist_ok=True)
    picture = Path(directory) / f"{file.stem}-{width}-{scheme}-{media}.png" if directory else None
    data = browser.screenshot(picture)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (width, 900)
    assert len(data) > 8000, "next to nothing is drawn"
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("innerWidth") == width
    assert browser.ask(PALE) == []
