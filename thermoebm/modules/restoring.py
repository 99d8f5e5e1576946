"""``load_from_checkpoint`` of the model, and what it says of a checkpoint that it cannot load."""

import warnings
from typing import Any, Self

import lightning.pytorch as pl
import torch

# Lightning's own, which refuses a call on an instance: the model that it returns would go unnoticed.
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod

from thermoebm.runtime import class_paths


class Restorable(pl.LightningModule):
    """A module whose checkpoints have its arguments if train.py wrote them, and only its tensors if not."""

    @_restricted_classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """The module of a checkpoint, as by Lightning's function of this name, whose arguments it takes.

        A checkpoint that train.py wrote needs no argument; those given replace its own. One of a trainer in Python
        needs all that the module was made with: ``LatentEBM.load_from_checkpoint(path, energy=..., generator=...)``.

        Raises:
            ValueError: If the checkpoint has no arguments and some are missing, or names a class that is not there.
        """
        class_paths.look_here()
        try:
            with warnings.catch_warnings():  # of jsonargparse, to Lightning
                warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli")
                return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except Exception as error:
            if told := _explained(cls.__name__, checkpoint_path, error):
                raise ValueError(f"{checkpoint_path}: {told}") from error
            raise


def _explained(name: str, path: Any, error: Exception) -> str | None:
    """The reason for an error of Lightning, if this package knows a better one."""
    try:
        arguments = torch.load(path, map_location="cpu", weights_only=True).get("hyper_parameters")
    except Exception:
        return None
    try:
        class_paths.check(arguments)
    except ValueError as told:
        return str(told)
    if arguments is not None or not isinstance(error, TypeError):
        return None
    return f"it has no arguments of {name}; give those it was made with, or take thermoebm.load if train.py wrote it."
