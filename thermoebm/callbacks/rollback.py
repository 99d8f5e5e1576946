"""Going back to an earlier state of training, and telling other callbacks of it."""

import copy
from typing import Any

import lightning.pytorch as pl


class Snapshot:
    """What a checkpoint would hold of a module and its optimiser's moments, in memory.

    Weights, averages and all other buffers, and what the module keeps elsewhere and gives to its checkpoints, such as
    persistent chains. Learning rates, counters and random streams are no part of it: they go on.
    """

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        (optimizer,) = trainer.optimizers
        elsewhere: dict[str, Any] = {}
        module.on_save_checkpoint(elsewhere)
        self._buffers = copy.deepcopy(module.state_dict())
        self._elsewhere = copy.deepcopy(elsewhere)
        self._moments = copy.deepcopy(optimizer.state_dict()["state"])

    def restore(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Goes back to it as a resumed training does, without losing it; parameters stay where they are in memory."""
        (optimizer,) = trainer.optimizers
        module.load_state_dict(self._buffers)
        module.on_load_checkpoint(copy.deepcopy(self._elsewhere))
        module.on_train_start()  # which takes what has been loaded
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": copy.deepcopy(self._moments), "param_groups": groups})


def rolled_back(trainer: pl.Trainer) -> bool:
    """Whether the steps of the epoch that ends now have been undone.

    What they logged stays, and so does its validation, both of the lost state; nothing should be concluded from them.
    Callbacks that come after the one that goes back measure the state that was restored.
    """
    return any(getattr(callback, "rolled_back", False) for callback in trainer.callbacks)  # type: ignore[attr-defined]
