"""Debian's Chromium, headless, and an application served to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.applications import Starlette

from tests.iscsi import free_port
from tests.service.dashboard.conftest import TOKEN
from tests.waiting import HANG, wait

CHROMIUM = "/usr/bin/chromium"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=HANG * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve it; return the URL."""
    port = free_port()
    config = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait(lambda: server.started, what="the server never started")
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


class Visit:
    """One page in a window of its own, and all that went wrong on it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.wrong: list[str] = []
        context = browser.new_context(base_url=url, **options)
        context.set_default_timeout(HANG * 1000)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", self._check)

    def _note(self, message: Any) -> None:
        # An answer like 401 is noted by the browser; it is what a test is about.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def _check(self, request: Any) -> None:
        if not request.url.startswith(self.url):
            self.wrong.append(f"it asks elsewhere: {request.url}")

    def log_in(self) -> Page:
        self.page.goto("/")
        self.page.fill("#token", TOKEN)
        self.page.click("button")
        self.page.wait_for_selector("#hosts")
        return self.page
