"""Makes ``import torchvision`` work where its compiled operators cannot load.

Next to a CPU build of torch, a torchvision wheel built against CUDA skips its compiled extension. The import then fails
with ``operator torchvision::nms does not exist``, because the Python half registers shape functions for operators that
nobody has defined, and Lightning, torchmetrics and torch-fidelity fail with it.

Declaring those operators is enough: data sets, transforms and ``make_grid`` need none of them. The operators themselves
(``ops.nms``, ``io.read_image``) stay unavailable and say so when called.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# The operators for which torchvision registers a shape function at import.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# Keeps the declarations alive: they vanish with their library object.
_libraries: list[Any] = []


class _Finder:
    """Finds torchvision where Python would; if operators are missing at its import, declares them and tries again."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_or_declare(module: ModuleType) -> None:
            try:
                execute(module)
            except RuntimeError as error:
                if "torchvision::" not in str(error) or _libraries:
                    raise
                _declare()
                execute(module)

        spec.loader.exec_module = execute_or_declare  # type: ignore[method-assign]
        return spec


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def install() -> None:
    """Installs the finder, which imports nothing until torchvision is imported; no effect if it already has been."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
