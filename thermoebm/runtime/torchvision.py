"""Makes ``import torchvision`` work where its compiled operators cannot load.

Next to a CPU build of torch, a torchvision wheel built against CUDA skips its compiled extension. The import then fails
with ``operator torchvision::nms does not exist``, because the Python half registers shape functions for operators that
nobody has defined, and Lightning, torchmetrics and torch-fidelity fail with it.

Declaring those operators is enough: data sets, transforms and ``make_grid`` need none of them. The operators themselves
(``ops.nms``, ``io.read_image``) stay unavailable and say so when called.

:func:`install_in_environment` copies this file into the environment, where it acts in every program, whatever that
imports first. (It therefore needs the standard library alone.)
"""

import shutil
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

# The operators for which torchvision registers a shape function at import.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# Keeps the declarations alive: they vanish with their library object.
_libraries: list[Any] = []


class TorchvisionFinder:
    """Finds torchvision as other finders do; if operators are missing at its import, declares them and repeats it."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        others = [finder for finder in sys.meta_path if not _is_this(finder)]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """A loader that executes its module a second time if operators are missing; otherwise the one that it wraps."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error) or _libraries:
                raise
            _declare()
            self._loader.exec_module(module)


def _is_this(finder: object) -> bool:
    """By name: the copy in an environment has a class of its own."""
    return getattr(finder, "__name__", type(finder).__name__) == TorchvisionFinder.__name__


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def install() -> None:
    """Installs the finder, which imports nothing until torchvision is imported; no effect if there is one."""
    if not any(map(_is_this, sys.meta_path)):
        sys.meta_path.insert(0, TorchvisionFinder())


def install_in_environment() -> None:
    """Copies this file to site-packages, beside a ``.pth`` file that installs the finder whenever Python starts."""
    packages = Path(sysconfig.get_path("purelib"))
    shutil.copyfile(__file__, packages / "_thermoebm_torchvision.py")
    line = "import _thermoebm_torchvision; _thermoebm_torchvision.install()\n"
    (packages / "_thermoebm_torchvision.pth").write_text(line, encoding="utf-8")
