"""Lazy imports: a package exports names of its modules and imports a module only when it is needed."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Builds ``__getattr__``, ``__dir__`` and ``__all__`` of a package (PEP 562).

    The module of a name is imported at the first access, so that importing the package itself costs nothing.

    Args:
        package: ``__name__`` of the package.
        modules: Maps each module of the package to the names it exports, separated by spaces. ``load=load_model``
            exports the module's ``load_model`` as ``load``.
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
