"""A headless Chromium, driven over its debugging pipe: no port, no websocket, no other package.

    with Chromium(tmp_path) as browser:
        browser.open("http://127.0.0.1:9001/")
        browser.wait("document.title.includes('leads')")
        browser.run("document.getElementById('kill-n1').click()")
        browser.screenshot(path, 1280, 900)

Commands go to its descriptor 3 and answers come from its 4, one JSON object each, ended by a zero
byte. It talks to nobody but the page it is told to open.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
_ON_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 20) for each in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
    os.close(end)
os.execv(sys.argv[3], sys.argv[3:])
"""
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")


class Chromium:
    """One browser with one page."""

    def __init__(self, directory: Path) -> None:
        assert PROGRAM is not None
        orders_out, self._orders = os.pipe()
        self._answers, answers_in = os.pipe()
        off = ("gpu", "quic", "background-networking", "component-update", "sync", "extensions")
        flags = [f"--disable-{each}" for each in off]
        flags += ["--headless", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe"]
        flags += [f"--user-data-dir={directory / 'profile'}", "--hide-scrollbars"]
        pipes = [str(orders_out), str(answers_in)]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _ON_3_AND_4, *pipes, PROGRAM, *flags, "about:blank"],
            pass_fds=(orders_out, answers_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(orders_out)
        os.close(answers_in)
        self._unread = b""
        self._number = 0
        self._session = ""
        self.problems: list[str] = []
        """What the page complained of: exceptions, and whatever its policy refused."""

    def __enter__(self) -> Chromium:
        try:
            self._attach()
        except BaseException:
            self._end()
            raise
        return self

    def _attach(self) -> None:
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self._ask("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._orders)
        os.close(self._answers)

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        order: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        data = memoryview(json.dumps(order).encode() + b"\0")
        while data:
            data = data[os.write(self._orders, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            data = os.read(self._answers, 1 << 16)
            assert data, "chromium ended"
            self._unread += data
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        if found.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(found["params"]["exceptionDetails"])[:500])
        if found.get("method") == "Log.entryAdded":
            entry = found["params"]["entry"]
            if entry["level"] == "error" and entry["source"] not in ("network",):
                self.problems.append(entry["text"])
        return found

    def open(self, address: str) -> None:
        """Go there; returns before it is loaded."""
        self._ask("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        done = self._ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script: str, timeout_s: float = 20.0) -> Any:
        """The value of an expression once it is true."""
        until_s = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < until_s, (script, self.run("document.body.innerText"))
            time.sleep(0.02)
        return value

    def press(self, key: str) -> None:
        """One key, down and up."""
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            extra = text if kind == "keyDown" else {}
            self._ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **extra,
            )

    def size(self, width: int, height: int, *, scale: float = 1, phone: bool = False) -> None:
        """As large as that, in CSS pixels."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )

    def screenshot(self, path: Path) -> bytes:
        """What it shows, as PNG."""
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(data := base64.b64decode(shot["data"]))
        return data
