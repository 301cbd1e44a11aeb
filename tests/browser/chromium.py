"""A small client of the DevTools protocol: Chromium over two pipes, standard library alone.

Chromium reads commands from its file descriptor 3 and writes replies and events to 4, as JSON
texts that end with a NUL (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip
PATIENCE = 30.0
"""Seconds that a reply may take."""


class Page:
    """A tab. `events` holds all that the browser told unasked: requests, console, exceptions."""

    def __init__(self, commands: int, replies: int) -> None:
        self.commands, self.replies = commands, replies
        self.events: list[dict[str, Any]] = []
        self.buffer = b""
        self.last = 0
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command and its result; RuntimeError where the browser refuses it."""
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            found = self.receive()
            if found.get("id") == self.last:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def receive(self) -> dict[str, Any]:
        """The next message; events are also kept."""
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.replies], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"Chromium said nothing for {PATIENCE:g} seconds")
            if not (data := os.read(self.replies, 1 << 20)):
                raise ConnectionError("Chromium has closed its pipe")
            self.buffer += data
        text, _, self.buffer = self.buffer.partition(b"\0")
        found = json.loads(text)
        if "method" in found:
            self.events.append(found)
        return found

    def named(self, method: str) -> list[dict[str, Any]]:
        """What the events of one name said."""
        return [event["params"] for event in self.events if event["method"] == method]

    def show(self, url: str, *, width: int = 1280, height: int = 900, scheme: str = "light",
             scripts: bool = True) -> None:  # fmt: skip
        """Load an address in a window of this size and wait until it has loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=media)
        self.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not self.named("Page.loadEventFired"):
            self.receive()

    def run(self, script: str) -> Any:
        """The value of an expression; RuntimeError where it throws."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true; TimeoutError where it does not become so."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} has not become true in {PATIENCE:g} seconds")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """A click of the mouse in the middle of the first element that the selector finds."""
        chosen = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{chosen}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.run(f"(({{x, y, width, height}}) => [x + Math.min(width, innerWidth - x) / 2, "
                       f"y + height / 2])({chosen}.getBoundingClientRect())")  # fmt: skip
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left",
                      clickCount=1)  # fmt: skip

    def press(self, key: str, code: int) -> None:
        """A key by its name and number: ("Escape", 27), ("Enter", 13)."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **text)  # fmt: skip

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """A PNG of the whole page, or of the window."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path


@contextmanager
def chromium(executable: str, profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, with a profile folder of its own; both end together."""
    theirs_in, commands = os.pipe()
    replies, theirs_out = os.pipe()
    # away from 3 and 4, which they are copied to
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]

    def place() -> None:
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    process = subprocess.Popen(
        [executable, f"--user-data-dir={profile}", *OPTIONS], preexec_fn=place, pass_fds=(3, 4),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (theirs_in, theirs_out, *ends):
        os.close(end)
    try:
        yield Page(commands, replies)
    finally:
        os.close(commands)  # Chromium ends when its pipe does
        os.close(replies)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
