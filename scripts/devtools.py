"""A headless Chromium that is told what to do over a pipe, by the DevTools protocol; the standard library is all it needs.

One browser shows any number of pages, at any width: a window of headless Chromium is not made narrower than 500 pixels, what it
emulates is. https://chromedevtools.github.io/devtools-protocol/ has the messages: JSON, each ended by a zero byte.
"""

import json
import shutil
import subprocess
import tempfile
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
# Chromium reads its file 3 and writes its file 4: the shell's input and output become these.
STARTED = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null'


def chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab. `with Browser() as browser: browser.resize(390); browser.show(address); browser.value("document.title")`."""

    def __enter__(self) -> Self:
        program = chromium()
        if program is None:
            raise FileNotFoundError(f"no browser: none of {', '.join(NAMES)} is on the PATH; install one of them")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command = ["sh", "-c", STARTED, "sh", program, *OPTIONS, f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked, self._left, self._session = 0, b"", ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._profile.cleanup()

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window this many CSS pixels wide and high; the page that is shown is laid out anew."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def show(self, address: str) -> None:
        """Load the page, and wait until all of it is there. FileNotFoundError where it cannot be loaded."""
        failed = self.call("Page.navigate", url=address).get("errorText")
        if failed:
            raise FileNotFoundError(f"{address}: {failed}")
        while self.value("document.readyState") != "complete" or self.value("location.href") == "about:blank":
            self.value("new Promise((after) => setTimeout(after, 20))")

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives, once its promise is kept."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise ValueError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command of the protocol; events that come before it are passed over."""
        self._asked += 1
        told = {"id": self._asked, "method": method, "params": parameters}
        if self._session:
            told["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            answer = self._message()
            if answer.get("id") == self._asked:
                if "error" in answer:
                    raise ValueError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._left:
            part = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not part:
                raise ConnectionError("the browser has ended before it answered")
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))
