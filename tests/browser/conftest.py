"""Chromium, as all these tests drive it."""

import contextlib
import os
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
INSTALL = "Chromium is missing: sudo apt install chromium, or .venv/bin/playwright install chromium"

expect.set_options(timeout=20_000)  # a busy machine takes its time


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path  # where it would be
        found = next(filter(None, map(shutil.which, [*NAMES, own])), None)
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(INSTALL)
        arguments = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def watched_page(chromium, own, **options):
    """Open an empty page; at the end nothing must have gone wrong or left the machine.

    `own` are the beginnings of addresses that are on it.
    """
    context = chromium.new_context(**options)
    context.set_default_timeout(10_000)
    page, faults = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda asked: faults.append(asked.url))
    page.on("request", lambda asked: asked.url.startswith(own) or faults.append(asked.url))
    page.on("websocket", lambda socket: socket.url.startswith(own) or faults.append(socket.url))
    try:
        yield page
    finally:
        context.close()
    assert faults == []
