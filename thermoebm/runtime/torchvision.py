"""Makes ``import torchvision`` work where its compiled operators cannot load.

Next to a CPU build of torch, a torchvision wheel built against CUDA skips its compiled extension. The import then fails
with ``operator torchvision::nms does not exist``, because the Python half registers shape functions for operators that
nobody has defined, and Lightning, torchmetrics and torch-fidelity fail with it.

Declaring those operators is enough: data sets, transforms and ``make_grid`` need none of them. The operators themselves
(``ops.nms``, ``io.read_image``) stay unavailable and say so when called.
"""

import importlib

import torch

# The operators for which torchvision registers a shape function at import.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def make_importable() -> torch.library.Library | None:
    """Imports torchvision, declaring the operators it misses if it does not import by itself.

    Returns:
        The library that holds the declarations, which the caller must keep alive; None where nothing was needed.

    Raises:
        RuntimeError: torchvision's own, if declaring the operators does not help.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    importlib.import_module("torchvision")
    return library


LIBRARY = make_importable()
