"""Real browsers, driven over their own debugging protocols: Chromium by CDP, Firefox by WebDriver BiDi.

Both are JSON over a WebSocket, which we have a client for; a driver library would bring a browser of its
own. A browser starts with an empty home folder, talks to nobody but the server under test, and is killed
at the end.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CALL_S = 60.0
WAIT_S = 60.0
"""For something to become true in a page: a loaded machine decodes slowly."""

SCREENSHOTS = Path(__file__).parents[1] / "browser" / "screenshots"
"""For a person to look at; git does not keep them."""

Reply = dict[str, Any]


class DevToolsError(Exception):
    """The browser refused a command, or a page threw."""


class PageLeft(DevToolsError):
    """The page went away while it was asked."""


class DevTools:
    """Commands out, replies and events in."""

    def __init__(self, url: str) -> None:
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(url, max_size=None, ping_interval=None, open_timeout=CALL_S)
        )
        self._replies: dict[int, Queue[Reply]] = {}
        self._last_id = 0
        self.on_event: Callable[[Reply], None] = lambda event: None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, params: Reply | None = None, **more: Any) -> Reply:
        """Send a command and wait for its result."""
        self._last_id += 1
        replies: Queue[Reply] = Queue()
        self._replies[self._last_id] = replies
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params or {}, **more}))
        reply = replies.get(timeout=CALL_S)
        if "error" in reply:
            kind = PageLeft if "navigated" in str(reply["error"]) else DevToolsError
            raise kind(f"{method}: {reply['error']} {reply.get('message', '')}")
        result: Reply = reply["result"]
        return result

    def _read(self) -> None:
        try:
            for text in self._socket:
                reply = json.loads(text)
                if reply.get("id") in self._replies:
                    self._replies.pop(reply["id"]).put(reply)
                else:
                    self.on_event(reply)
        except ConnectionClosed:
            return

    def close(self) -> None:
        """Close the socket."""
        self._open.close()
        self._reader.join(10)


@dataclass
class Seen:
    """What a page did that a test may look at afterwards."""

    problems: list[str] = field(default_factory=list)
    """Errors and warnings of the console, uncaught exceptions, violations of the content policy."""
    requests: list[str] = field(default_factory=list)


class Page:
    """One tab; see the two kinds below."""

    seen: Seen

    def goto(self, url: str) -> None:
        """Load an address and wait until it is loaded."""
        raise NotImplementedError

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, promises awaited."""
        raise NotImplementedError

    def screenshot(self, path: Path) -> None:
        """A picture of what is in view."""
        raise NotImplementedError

    def until(self, expression: str, timeout_s: float = WAIT_S) -> Any:
        """Wait for an expression to become true, and return it."""
        end_s = time.monotonic() + timeout_s
        while not (value := self._try(expression)):
            if time.monotonic() > end_s:
                body = self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {expression}\n{body}\n{self.seen}")
            time.sleep(0.05)
        return value

    def _try(self, expression: str) -> Any:
        """The value, or None from a page that is just being left."""
        try:
            return self.evaluate(expression)
        except PageLeft:
            return None

    def text(self, selector: str) -> str:
        """Text of the first element that fits."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))

    def click(self, selector: str) -> None:
        """Press an element."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, value: str) -> None:
        """Type into a field."""
        self.evaluate(
            f"(field => {{ field.value = {json.dumps(value)};"
            " field.dispatchEvent(new InputEvent('input', { bubbles: true })); })"
            f"(document.querySelector({json.dumps(selector)}))"
        )


# ---------------------------------------------------------------- Chromium


class ChromiumPage(Page):
    """A tab of Chromium."""

    def __init__(self, tools: DevTools, session: str) -> None:
        self._tools = tools
        self._session = session
        self.seen = Seen()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, params: Reply | None = None) -> Reply:
        """A command to this tab."""
        return self._tools.call(method, params, sessionId=self._session)

    def note(self, event: Reply) -> None:
        """Take an event of this tab."""
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.seen.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.seen.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.seen.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.seen.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.seen.requests.append(params["url"])

    def goto(self, url: str) -> None:
        """See ``Page``; an address that cannot be loaded leaves the browser's own error page."""
        self.call("Page.navigate", {"url": url})
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """See ``Page``."""
        wanted = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = self.call("Runtime.evaluate", wanted)
        if "exceptionDetails" in result:
            raise DevToolsError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """See ``Page``."""
        picture = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture))

    def look(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0) -> None:
        """Size of the window in CSS pixels, and the system's colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into a field."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", {"nodeId": document, "selector": selector})["nodeId"]
        self.call("DOM.setFileInputFiles", {"nodeId": node, "files": [str(path)]})

    def press(self, key: str) -> None:
        """Press and release a key, such as ``Tab``."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}
        pressed = {"key": key, "windowsVirtualKeyCode": codes[key], "text": "\r" if key == "Enter" else ""}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **pressed})
        self.call(
            "Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}
        )


class Chromium:
    """A running Chromium."""

    def __init__(self, tools: DevTools) -> None:
        self._tools = tools
        self._pages: dict[str, ChromiumPage] = {}
        tools.on_event = self._note

    def _note(self, event: Reply) -> None:
        page = self._pages.get(event.get("sessionId", ""))
        if page is not None:
            page.note(event)

    def page(self) -> ChromiumPage:
        """Open a window: browsers draw nothing in tabs that are behind others."""
        target = self._tools.call("Target.createTarget", {"url": "about:blank", "newWindow": True})[
            "targetId"
        ]
        attached = self._tools.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = ChromiumPage(self._tools, attached["sessionId"])
        self._pages[attached["sessionId"]] = page
        return page


Open = Callable[..., Chromium]
"""Starts a Chromium of one's own: ``(role, name, *flags)``; without a role it has no certificate."""


def microphone(path: Path) -> tuple[str, ...]:
    """Flags that make Chromium hear a recording, again and again, without asking."""
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={path}",
    )


@contextmanager
def chromium(binary: str, home: Path, *flags: str) -> Iterator[Chromium]:
    """Run Chromium with this home folder, in which its certificates lie."""
    profile = home / "profile"
    command = [
        binary,
        "--headless=new",
        "--no-sandbox",  # refuses to run as root otherwise, and containers have no user namespaces
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        *flags,
    ]
    with _running(command, home) as process:
        port_file = profile / "DevToolsActivePort"
        _wait_for(lambda: port_file.is_file() and port_file.read_text().count("\n") >= 1, process)
        port, path = port_file.read_text().split("\n")[:2]
        tools = DevTools(f"ws://127.0.0.1:{port}{path}")
        try:
            yield Chromium(tools)
        finally:
            tools.close()


def trust(home: Path, ca: Path, client: Path | None = None, passphrase: str = "") -> None:
    """Make the NSS database that Chromium on Linux reads: an authority, and a client's ``.p12``."""
    _fill_nss(home / ".pki" / "nssdb", ca, client, passphrase)


def _fill_nss(database: Path, ca: Path, client: Path | None, passphrase: str) -> None:
    database.mkdir(parents=True, exist_ok=True)
    place = f"sql:{database}"
    if not (database / "cert9.db").exists():
        _run("certutil", "-N", "-d", place, "--empty-password")
    _run("certutil", "-A", "-d", place, "-n", "test authority", "-t", "CT,,", "-i", str(ca))
    if client is not None:
        _run("pk12util", "-i", str(client), "-d", place, "-W", passphrase, "-K", "")


# ---------------------------------------------------------------- Firefox


class FirefoxPage(Page):
    """A tab of Firefox."""

    def __init__(self, tools: DevTools, context: str) -> None:
        self._tools = tools
        self._context = context
        self.seen = Seen()
        tools.on_event = self._note

    def _note(self, event: Reply) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "log.entryAdded" if params["level"] in ("error", "warn"):
                self.seen.problems.append(str(params["text"]))
            case "network.beforeRequestSent":
                self.seen.requests.append(params["request"]["url"])

    def goto(self, url: str) -> None:
        """See ``Page``."""
        self._tools.call(
            "browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"}
        )

    def evaluate(self, expression: str) -> Any:
        """See ``Page``; values travel as JSON."""
        wanted = {
            "expression": f"(async () => JSON.stringify(await ({expression})))()",
            "target": {"context": self._context},
            "awaitPromise": True,
        }
        result = self._tools.call("script.evaluate", wanted)
        if result["type"] != "success":
            raise DevToolsError(str(result))
        value = result["result"]
        return json.loads(value["value"]) if value["type"] == "string" else None

    def screenshot(self, path: Path) -> None:
        """See ``Page``."""
        picture = self._tools.call("browsingContext.captureScreenshot", {"context": self._context})["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture))


FIREFOX_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "security.default_personal_cert": "Select Automatically",
    "services.settings.server": "data:,none",
    "toolkit.telemetry.enabled": False,
}


@contextmanager
def firefox(binary: str, home: Path, ca: Path, client: Path, passphrase: str) -> Iterator[FirefoxPage]:
    """Run Firefox with one tab and one client certificate, which it sends unasked."""
    profile = home / "profile"
    _fill_nss(profile, ca, client, passphrase)
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in FIREFOX_PREFERENCES.items()
    ]
    (profile / "user.js").write_text("\n".join(lines))
    log = home / "firefox.log"
    command = [binary, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with _running(command, home, log=log) as process:
        marker = "WebDriver BiDi listening on "
        _wait_for(lambda: marker in log.read_text(errors="replace"), process)
        address = log.read_text(errors="replace").split(marker, 1)[1].split()[0]
        tools = DevTools(f"{address}/session")
        try:
            tools.call("session.new", {"capabilities": {}})
            tools.call("session.subscribe", {"events": ["log.entryAdded", "network.beforeRequestSent"]})
            [context] = tools.call("browsingContext.getTree")["contexts"]
            yield FirefoxPage(tools, context["context"])
        finally:
            tools.close()


# ---------------------------------------------------------------- processes


@contextmanager
def _running(
    command: Sequence[str], home: Path, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a browser, which starts processes of its own, and end them all."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "MOZ_HEADLESS": "1"}
    with (log or home / "browser.log").open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        # It has a process group of its own: this ends what it started, and nothing else.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + CALL_S
    while not condition():
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < end_s, "the browser did not start"
        time.sleep(0.05)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


def found(*names: str) -> str | None:
    """The first of these programs that is installed."""
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A home folder with a short path: Chromium makes sockets in it, whose paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
