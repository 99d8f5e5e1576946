"""Packages that hand out names from their modules without importing these first."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562).

    A name is imported when it is first asked for, so that importing the package itself costs nothing.

    Args:
        package: Its ``__name__``.
        modules: Module of the package -> the names it gives, with spaces between. ``load=load_model`` hands out the
            module's ``load_model`` as ``load``.
    """
    homes: dict[str, tuple[str, str]] = {}
    for module, names in modules.items():
        for name in names.split():
            given, _, own = name.partition("=")
            homes[given] = module, own or given

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, own = homes[name]
        return getattr(importlib.import_module(f"{package}.{module}"), own)

    return get, lambda: sorted({*vars(sys.modules[package]), *homes}), sorted(homes)
