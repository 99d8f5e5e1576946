"""``load_from_checkpoint`` of the model, and what it says of a checkpoint that it cannot load."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl

# Lightning's own, which refuses a call on an instance: the model that it returns would go unnoticed.
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from thermoebm.runtime import archives, class_paths


class Restorable(pl.LightningModule):
    """A module whose checkpoints have its arguments if train.py wrote them, and only its tensors if not.

    A file that it is loaded or trained on from is verified before Lightning reads it, which compares no checksums.
    """

    def setup(self, stage: str) -> None:
        _verify(self.trainer.ckpt_path)

    @_restricted_classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """The module of a checkpoint, as by Lightning's function of this name, whose arguments it takes.

        A checkpoint that train.py wrote needs no argument; those given replace its own. One of a trainer in Python
        needs all that the module was made with: ``LatentEBM.load_from_checkpoint(path, energy=..., generator=...)``.

        Raises:
            ValueError: If the file is damaged or holds weights that are not finite, or the checkpoint has no arguments
                and some are missing, or names a class that is not there.
        """
        class_paths.look_here()
        _verify(checkpoint_path)
        try:
            with warnings.catch_warnings():  # of jsonargparse, to Lightning
                warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"lightning\.pytorch\.cli")
                model = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except Exception as error:
            if told := _explained(cls.__name__, checkpoint_path, error):
                raise ValueError(f"{checkpoint_path}: {told}") from error
            raise
        try:
            check_finite(dict(model.named_parameters()))
        except ValueError as told:
            raise ValueError(f"{checkpoint_path} {told}.") from None
        return model


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises a ValueError, in words that follow the file's name, if a checkpoint holds values that are not finite."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        others = f" and {len(broken) - 1} others" if len(broken) > 1 else ""
        raise ValueError(
            f"holds values that are not finite in {broken[0]}{others}: training broke down before it was written"
        )


def _verify(path: Any) -> None:
    """Raises a ValueError if a file does not match its checksums; what is no file here is left to Lightning."""
    if isinstance(path, str | Path) and Path(path).is_file():
        try:
            archives.verify(path)
        except archives.Unreadable as error:
            raise ValueError(f"{path} {error}.") from error


def _explained(name: str, path: Any, error: Exception) -> str | None:
    """The reason for an error of Lightning, if this package knows a better one."""
    try:
        arguments = archives.read(path).get("hyper_parameters")
    except Exception:
        return None
    try:
        class_paths.check(arguments)
    except ValueError as told:
        return str(told)
    if arguments is not None or not isinstance(error, TypeError):
        return None
    return f"it has no arguments of {name}; give those it was made with, or take thermoebm.load if train.py wrote it."
