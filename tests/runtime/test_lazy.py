"""Packages hand out what their modules have, and import a module only when one of its names is asked for."""

import sys

import pytest

PACKAGE = """
from thermoebm.runtime import lazy
__getattr__, __dir__, __all__ = lazy.attach(__name__, {"one": "first load=load_one", "two": "second"})
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, imported; its name."""
    folder = tmp_path / "lazily_made"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "one.py").write_text("first, load_one = object(), object()\n")
    (folder / "two.py").write_text("second = object()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("lazily_made")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazily_made"]:
        del sys.modules[name]


def test_a_name_is_the_modules_own_object_and_imports_no_other_module(package):
    assert "lazily_made.one" not in sys.modules
    first, load = package.first, package.load
    assert (first, load) == (sys.modules["lazily_made.one"].first, sys.modules["lazily_made.one"].load_one)
    assert "lazily_made.two" not in sys.modules
    assert not hasattr(package, "load_one")


def test_everything_is_listed_and_can_be_imported_by_name(package):
    names: dict = {}
    exec("from lazily_made import *", names)
    assert {name for name in names if name != "__builtins__"} == {"first", "load", "second"} == {*package.__all__}
    assert {"first", "load", "second", "__name__"} <= {*dir(package)}
    with pytest.raises(ImportError, match="cannot import name 'third'"):
        exec("from lazily_made import third", {})
    with pytest.raises(AttributeError, match=r"module 'lazily_made' has no attribute 'third'"):
        package.third  # noqa: B018
