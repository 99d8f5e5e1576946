"""A short training with one callback."""

from typing import Any

import lightning.pytorch as pl
import pytest

from thermoebm.data import Digits
from thermoebm.modules import LatentEBM


@pytest.fixture
def fit(tmp_path):
    """Trains a model for two batches an epoch with these callbacks; warnings are errors unless a test expects them."""

    def fit(model: LatentEBM, callback: pl.Callback | list[pl.Callback], **arguments: Any) -> pl.Trainer:
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            logger=pl.loggers.TensorBoardLogger(tmp_path, name="", version=""),
            callbacks=callback,
            enable_model_summary=False,
            enable_checkpointing=False,
            limit_val_batches=1,
            log_every_n_steps=1,
            **({"max_epochs": 1, "limit_train_batches": 2, "num_sanity_val_steps": 0} | arguments),
        )
        trainer.fit(model, datamodule=Digits(batch_size=20))
        return trainer

    return fit
