"""How to train on after a training that ended by a fault."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint


def way_back(trainer: pl.Trainer) -> str:
    """The beginning of a sentence on how to train on: from the last checkpoint that is there, if there is one."""
    saved = [path for keeper in trainer.checkpoint_callbacks for path in _saved(keeper)]
    resumed = [trainer.ckpt_path] if trainer.ckpt_path else []
    for path in map(Path, [*saved, *resumed]):
        if path.is_file():
            return f"Go on from the last checkpoint, --ckpt_path {path},"
    return "No checkpoint was saved: start again"


def _saved(keeper: Checkpoint) -> list[str]:
    """What a callback saved in this run, the last first; Lightning's has an empty path where it saved nothing."""
    return [path for name in ("last_model_path", "best_model_path") if (path := getattr(keeper, name, ""))]
