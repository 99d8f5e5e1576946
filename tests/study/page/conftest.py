"""A whole study and its page, written once for the tests that only read them."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.folder import make
from tests.study.page.html_tree import tree
from thermoebm.study import page


@pytest.fixture(scope="package")
def made(tmp_path_factory):
    """(folder, final.csv as numbers, the page's tree); not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    final = make(folder)
    return folder, final, tree(page.write(folder).read_text())


@pytest.fixture
def study(made, tmp_path):
    """A copy to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "study"))


@pytest.fixture(scope="module")
def browser() -> Iterator:
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


@pytest.fixture
def open_page(browser, study):
    """Opens the page; whatever it says on the console, raises or asks the network for fails the test."""
    contexts, complaints = [], []

    def open_(width=1600, height=1000, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        own = study[0].as_uri()
        page.on("request", lambda r: r.url.startswith((own, "data:")) or complaints.append(r.url))
        page.goto(own)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
