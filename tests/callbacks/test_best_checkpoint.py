"""The best checkpoint: which epoch it is of, that it is whole, and that a run goes on from it and with it exactly."""

import math
import shutil

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint

from thermoebm.callbacks import BestCheckpoint, LastCheckpoint
from thermoebm.data import Digits

# Of Lightning, when a run goes on in its folder; the program leaves it out (runtime/terminal.py).
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

WHOLE = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")


class Killed(Exception):
    pass


class Script(pl.Callback):
    """Logs ``mine`` at each epoch's end, unless it is None, and says that an epoch was rolled back."""

    def __init__(self, values, undone=None):
        self.values, self.undone, self.rolled_back = values, undone, False

    def on_train_epoch_end(self, trainer, pl_module):
        self.rolled_back = trainer.current_epoch == self.undone
        value = self.values[trainer.current_epoch]
        if value is not None:
            pl_module.log("mine", value)


class Kill(Checkpoint):
    """Ends the program in a hook of an epoch, between those of the two checkpoints."""

    def __init__(self, hook, epoch):
        self.hook, self.epoch = hook, epoch

    def _kill(self, trainer, hook):
        if (hook, trainer.current_epoch) == (self.hook, self.epoch):
            raise Killed

    def on_train_epoch_end(self, trainer, pl_module):
        self._kill(trainer, "end")

    def on_train_epoch_start(self, trainer, pl_module):
        self._kill(trainer, "start")


@pytest.fixture
def train(small_model, tmp_path):
    """Trains two batches an epoch in a folder, an epoch for each value or fewer; returns what keeps the best."""

    def train(values, *, mode="min", monitor="mine", folder="run", epochs=None, resume=None, undone=None, kill=None):
        best = BestCheckpoint(monitor, mode)
        callbacks = [Script(values, undone), best, *([Kill(*kill)] if kill else []), LastCheckpoint()]
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            logger=pl.loggers.TensorBoardLogger(tmp_path / folder, name="", version=""),
            callbacks=callbacks,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_train_batches=2,
            limit_val_batches=0,
            log_every_n_steps=1,
            max_epochs=epochs or len(values),
        )
        trainer.fit(small_model(), datamodule=Digits(batch_size=20), ckpt_path=resume)
        return best

    return train


def kept(tmp_path, name="best", folder="run"):
    return torch.load(tmp_path / folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def state(checkpoint):
    return checkpoint["callbacks"]["BestCheckpoint"]


def assert_whole(best, last):
    for key in WHOLE:
        torch.testing.assert_close(best[key], last[key], rtol=0, atol=0)


def test_a_best_in_the_middle_is_kept_bit_for_bit(train, tmp_path):
    """It is what last.ckpt was at the very end of that epoch, learning rates included; last.ckpt tells of it."""
    best = train([3.0, 1.0, 2.0, 1.5])
    train([3.0, 1.0], folder="short")
    assert_whole(kept(tmp_path), kept(tmp_path, "last", "short"))
    assert kept(tmp_path)["epoch"] == 1
    told = {"monitor": "mine", "mode": "min", "value": 1.0, "epoch": 1}
    assert state(kept(tmp_path)) == told | {"chosen": True}
    assert state(kept(tmp_path, "last")) == told | {"chosen": False}
    assert kept(tmp_path, "last")["epoch"] == 3
    assert best.summary() == "best.ckpt is of epoch 2: mine 1"
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    }


@pytest.mark.parametrize(
    ("values", "mode", "epoch"),
    [
        ([1.0, 3.0, 2.0], "max", 1),
        ([2.0, 1.0, 1.0], "min", 1),  # a tie keeps the earlier
        ([math.nan, 2.0, math.nan], "min", 1),
        ([math.nan, 2.0, math.nan], "max", 1),
        ([-math.inf, 2.0, 1.0], "min", 2),  # no value of a model that works
        ([2.0, None, 1.0, None], "min", 2),
        ([None, None], "min", None),
        ([math.nan, math.nan], "max", None),
    ],
)
def test_which_epoch_is_best(train, tmp_path, values, mode, epoch):
    best = train(values, mode=mode)
    if epoch is None:
        assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
        assert best.summary() == "There is no best.ckpt: mine had no finite value"
        assert "BestCheckpoint" not in kept(tmp_path, "last")["callbacks"]
    else:
        assert (kept(tmp_path)["epoch"], state(kept(tmp_path))["value"]) == (epoch, values[epoch])


def test_an_epoch_that_was_rolled_back_does_not_count_nor_does_its_value_later(train, tmp_path):
    """Its value is of lost weights; Lightning keeps it until another is logged."""
    train([2.0, 1.0, None, 1.5], undone=1)
    assert (kept(tmp_path)["epoch"], state(kept(tmp_path))["value"]) == (3, 1.5)


def test_nothing_is_kept_without_a_monitor(train, tmp_path):
    best = train([1.0, 2.0], monitor=None)
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert best.summary() is None
    assert BestCheckpoint().summary() is None  # the default is not logged without validation
    with pytest.raises(ValueError, match="mode is least; give min or max"):
        BestCheckpoint("mine", "least")


VALUES = [3.0, 1.0, 2.0, 0.5, 0.7]


@pytest.mark.parametrize("hook", ["end", "start"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_killed_before_both_have_their_names_a_run_goes_on_as_if_it_had_not_been(train, tmp_path, hook, epoch, capsys):
    """``end``: best.ckpt is saved and has no name, the older best is intact; ``start``: it has, and last.ckpt has not.

    Either way last.ckpt is of the epoch before, and never tells of a best.ckpt that is not there.
    """
    train(VALUES, folder="whole")
    with pytest.raises(Killed):
        train(VALUES, kill=(hook, epoch + (hook == "start")))
    last = kept(tmp_path, "last")
    assert last["epoch"] == epoch - 1
    assert kept(tmp_path)["epoch"] == (epoch if hook == "start" else state(last)["epoch"])
    train(VALUES, resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    for name in ("best", "last"):
        assert_whole(kept(tmp_path, name), kept(tmp_path, name, "whole"))
        assert state(kept(tmp_path, name)) == state(kept(tmp_path, name, "whole"))
    assert ("is no best of the epochs that are resumed" in capsys.readouterr().out) == (hook == "start")


def test_a_resumed_run_keeps_the_best_of_before(train, tmp_path):
    """Worse epochs do not replace it; without the state in last.ckpt the first one would."""
    train(VALUES[:3])
    before = kept(tmp_path)
    best = train([*VALUES[:3], 2.5], resume=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert_whole(kept(tmp_path), before)
    assert (best.epoch, best.value) == (1, 1.0)


def test_a_run_goes_on_from_its_best_as_it_did_then(train, tmp_path):
    """In another folder, where the best is looked for anew: each best.ckpt is of an epoch of its own run."""
    train(VALUES)
    train(VALUES[:3], folder="older")
    best = train(VALUES[:3], folder="other", resume=tmp_path / "older" / "checkpoints" / "best.ckpt")
    assert_whole(kept(tmp_path, "last", "other"), kept(tmp_path, "last", "older"))
    assert (best.epoch, best.value, kept(tmp_path, folder="other")["epoch"]) == (2, 2.0, 2)
    assert kept(tmp_path, folder="older")["epoch"] == 1


@pytest.mark.parametrize("change", ["gone", "broken", "mode"])
def test_what_no_longer_fits_is_forgotten(train, tmp_path, change, capsys):
    """A best.ckpt that was removed, cannot be read, or is best by another measure."""
    train(VALUES[:3])
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    if change == "gone":
        path.unlink()
    elif change == "broken":
        path.write_bytes(b"no checkpoint")
    shutil.copy(path.with_name("last.ckpt"), tmp_path / "start.ckpt")
    mode = "max" if change == "mode" else "min"
    best = train([*VALUES[:3], 2.5], mode=mode, resume=tmp_path / "start.ckpt")
    assert (best.epoch, best.value, kept(tmp_path)["epoch"]) == (3, 2.5, 3)
    said = f"{path} is of epoch 2 and is no best of the epochs that are resumed; it stays until an epoch logs mine"
    assert (said in capsys.readouterr().out) == (change == "mode")
