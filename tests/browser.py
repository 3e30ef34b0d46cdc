"""A small headless Chromium for tests: opens a file, records every request and message, takes pictures."""
import os, shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHROMIUM = next((p for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser"), shutil.which("google-chrome")) if p and Path(p).exists()), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage"]


def need_chromium() -> None:
    "Skips where there is no browser, unless CI is set: there its absence is a failure"
    if CHROMIUM: return
    if os.environ.get("CI"): pytest.fail("Chromium is not installed; reports cannot be tested in a browser.")
    pytest.skip("Chromium is not installed; reports are not tested in a browser.")


@dataclass
class Opened:
    "A page in the browser, with what it asked the network for and what it said"
    page: object
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        "Requests other than the file itself and data inside of it"
        own = self.page.url.split("#")[0]
        return [url for url in self.requests if url.split("#")[0] != own and not url.startswith(("data:", "blob:"))]

    def charts(self) -> int: return self.page.locator("svg.main-svg").count()
    def wide(self) -> int: return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextmanager
def browser() -> Iterator[object]:
    need_chromium()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try: yield chromium
        finally: chromium.close()


def opened(chromium: object, path: Path, width: int = 1280, height: int = 900, wait: str = "") -> Opened:
    "`path` in a new tab; waits for the selector `wait` if one is given, then for 300 ms more"
    page = chromium.new_page(viewport={"width": width, "height": height})
    result = Opened(page)
    page.on("request", lambda request: result.requests.append(request.url))
    page.on("console", lambda message: result.messages.append(message.text))
    page.on("pageerror", lambda error: result.errors.append(str(error)))
    page.goto(Path(path).resolve().as_uri())
    if wait: page.wait_for_selector(wait, state="attached", timeout=30_000)
    page.wait_for_timeout(300)
    return result
