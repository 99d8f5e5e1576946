"""A whole study and its page, written once for the tests that only read them."""

import shutil
from pathlib import Path

import pytest

from tests.browser import opened
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


@pytest.fixture
def open_page(browser, study):
    """Opens the page."""
    own = study[0].as_uri()
    with opened(browser, (own, "data:"), 1600, 1000) as open_:
        yield lambda *size, **options: open_(own, *size, **options)
