"""The system's chromium, and pages in it that may neither complain nor ask another host for anything."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's chromium; without it, or playwright, the tests that need it are skipped."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    with sync_api.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if sys.platform == "linux" else []  # the sandbox refuses to run as root
        try:
            browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        except sync_api.Error as error:
            pytest.skip(f"{chromium} does not start ({error.message.splitlines()[0]})")
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, own: tuple[str, ...], width: int, height: int) -> Iterator[Callable[..., Any]]:
    """Gives a function that opens a page by its address, in a window of this size unless it is given another.

    What such a page says on the console, raises, or asks of an address that does not begin as one of ``own``, fails the
    test, and so does an answer that is a failure.
    """
    contexts, complaints = [], []

    def open_(address: str, width: int = width, height: int = height, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: r.url.startswith(own) or complaints.append(r.url))
        page.on("response", lambda r: r.ok or r.status == 304 or complaints.append(f"{r.status} {r.url}"))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
