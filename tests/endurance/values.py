"""One value that is not finite, put into a stage of a random training step, under each policy of the model."""

import copy
import itertools
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from tests.callbacks.faults import FAULTS, Inject
from tests.callbacks.test_rollback import equal, tensors
from thermoebm.callbacks import EnergyAlarm
from thermoebm.data import Digits
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP

_LAST = 6  # steps of a training, three an epoch


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    rng = random.Random(0)
    # No policy but stop can mend weights.
    stages = ["rung"] if short else [stage for stage in FAULTS if stage != "weights"]
    for policy, stage, _ in itertools.product(("stop", "reject", "rollback"), stages, range(1 if short else 5)):
        yield f"a value that is not finite, {policy}", _held(folder, policy, stage, rng.randrange(_LAST))


def _held(folder: Path, policy: Any, stage: str, step: int) -> bool:
    """Whether training said what happened, and no weight, moment or average is lost."""
    arguments, switch, first, _ = FAULTS[stage]
    torch.manual_seed(step)
    networks = EnergyMLP(8, hidden_dim=16), ConvGenerator(8, (1, 8, 8), features=2)
    model = LatentEBM(*networks, compile="off", average_decay=0.9, on_not_finite=policy, **copy.deepcopy(arguments))
    inject = Inject(switch, step=step)
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
        **{"enable_model_summary": False, "default_root_dir": str(folder), "num_sanity_val_steps": 0},
        **{"max_epochs": _LAST // 3, "limit_train_batches": 3, "limit_val_batches": 0},
        callbacks=[EnergyAlarm(), inject],
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            trainer.fit(model, datamodule=Digits(batch_size=20))
            told = " ".join(str(warning.message) for warning in seen)
        except FloatingPointError as ended:
            told = str(ended)
    if not all(value.isfinite().all() for value in tensors(trainer, model)):
        return False
    if policy == "reject":
        return f"In epoch {step // 3} " in told
    named = f"in step {step} of epoch {step // 3}: first {first.replace(chr(92), '').rstrip('.')}"
    return named in told and (policy == "rollback" or equal(inject.before, inject.after))
