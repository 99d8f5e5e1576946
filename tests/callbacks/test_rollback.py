"""Going back from a runaway energy loses what was ruined and nothing else; ends keep the last healthy state."""

import copy
import math
import re
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from tests import ROOT
from tests.cli.test_train import SHORT, checkpoint, cli, repeatable, rows
from thermoebm.callbacks import EnergyAlarm, ZeroGradientAlarm
from thermoebm.samplers import MALA


class Ruin(pl.Callback):
    """Ruins the model after the last step of some epochs; keeps what is there after the alarm.

    Args:
        epochs: The epochs to ruin.
        value: Of one parameter of each network, as in all averages, moments and persistent chains.
    """

    def __init__(self, epochs: tuple[int, ...] = (1,), value: float = 1e6) -> None:
        self.epochs = epochs
        self.value = value
        self.ends: list[Any] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.current_epoch in self.epochs and trainer.is_last_batch:
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    parameter.flatten()[0] = self.value
                for tensor in tensors(trainer, pl_module):
                    tensor.fill_(self.value if tensor.is_floating_point() else 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.ends.append([tensor.clone() for tensor in tensors(trainer, pl_module)])


def tensors(trainer: pl.Trainer, model: Any) -> list[Tensor]:
    """All that a rollback is to bring back."""
    moments = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
    tables = [t for table in (model.persistent.state() or {"tables": {}})["tables"].values() for t in table.values()]
    return [*model.state_dict().values(), *moments, *tables]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def everything(small_model: Any) -> Any:
    """A model with all kinds of state."""
    kernel = MALA(0.1, 3, target_acceptance=0.574)
    return small_model(prior_sampler=kernel, chain_start="persistent", average_decay=0.9)


@pytest.mark.parametrize("value", [1e6, math.nan])
def test_all_state_goes_back_to_the_last_healthy_epoch(small_model, fit, value):
    """Weights, averages, step sizes, moments and chains are those of the end of epoch 0, bit for bit."""
    ruin = Ruin((1, 3), value)
    with pytest.warns(UserWarning, match="ran away") as seen:
        trainer = fit(model := everything(small_model), [alarm := EnergyAlarm(), ruin], max_epochs=4)
    ends = ruin.ends
    assert equal(ends[0], ends[1])
    assert equal(ends[2], ends[3])
    assert not any(map(torch.equal, ends[1][:2], ends[2][:2]))  # it trains on
    assert alarm.state_dict() == {"rollbacks": 2, "healthy_epoch": 2, "trusted": True}
    assert trainer.global_step == 8
    first, second = (str(w.message) for w in seen if "ran away" in str(w.message))
    assert re.fullmatch(
        r"The energy ran away in epoch 1: .*; training goes on from the end of epoch 0 with 0\.5 times the learning "
        r"rate of the energy, now 1e-05 \(rollback 1 of 3\)\.",
        first,
    )
    assert re.search(r"from the end of epoch 2 .*, now [45].*e-06 \(rollback 2 of 3\)\.$", second)
    energy, generator = (group["lr"] for group in trainer.optimizers[0].param_groups)
    factors = [settings.factor(4) * settings.learning_rate for _, settings in model.optimizer_settings]
    assert [energy, generator] == pytest.approx([factors[0] / 4, factors[1]], rel=1e-12)


def test_a_runaway_of_the_first_epoch_goes_back_to_the_start(small_model, fit):
    """Where there are neither moments nor chains; and the next epoch is trained from there."""
    model = everything(small_model)
    start = copy.deepcopy(model.state_dict())
    with pytest.warns(UserWarning, match="goes on from where this training began"):
        trainer = fit(model, [EnergyAlarm(), ruin := Ruin((0,))], max_epochs=1)
    assert equal(ruin.ends[0], list(start.values()))
    assert not trainer.optimizers[0].state
    assert not model.persistent.state()


class Idle(pl.Callback):
    """The steps of epoch 1 do nothing: Adam leaves parameters without a gradient alone. Then the energy slows down."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.current_epoch == 1:
            pl_module.zero_grad()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            pl_module.lr_schedulers().base_lrs[0] /= 2


def test_a_lost_epoch_is_one_without_updates(small_model, fit):
    """Bit for bit: steps, noise, images and schedules go on as if it had been trained."""
    lost, idle = small_model(), small_model()
    with pytest.warns(UserWarning, match="ran away in epoch 1"):
        fit(lost, [EnergyAlarm(), Ruin()], max_epochs=4)
    fit(idle, Idle(), max_epochs=4)
    assert equal(list(lost.state_dict().values()), list(idle.state_dict().values()))


def test_warnings_are_given_once_and_again_after_a_recovery(small_model, fit):
    """Without going back: the ruin of epochs 1 and 3 stays until somebody else repairs it."""

    class Repair(Ruin):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 3:
                pl_module.load_state_dict(healthy)

    healthy = copy.deepcopy(small_model().state_dict())
    with pytest.warns(UserWarning, match="ran away") as seen:
        fit(small_model(), [EnergyAlarm("warn"), Repair((1, 4), 100.0)], max_epochs=5)
    told = [str(w.message) for w in seen if "ran away" in str(w.message)]
    assert [re.search(r"epoch (\d)", message)[1] for message in told] == ["1", "4"]
    assert all("training goes on. Start again with a smaller or a corrected step" in message for message in told)


def test_zero_gradients_of_a_lost_epoch_are_not_reported(small_model):
    alarm, model = ZeroGradientAlarm(), small_model()
    plugin = SimpleNamespace(forward_context=torch.no_grad)
    others = [SimpleNamespace(rolled_back=True)]
    trainer: Any = SimpleNamespace(callbacks=others, current_epoch=1, precision_plugin=plugin)
    alarm.on_before_optimizer_step(trainer, model, None)
    alarm.on_train_epoch_end(trainer, model)  # the warning would be an error
    others[0].rolled_back = False
    alarm.on_before_optimizer_step(trainer, model, None)
    with pytest.warns(UserWarning, match="exactly zero gradient"):
        alarm.on_train_epoch_end(trainer, model)


@pytest.mark.parametrize("fields", [{"on_runaway": "stop"}, {"max_rollbacks": 1}])
def test_training_ends_before_a_ruined_state_is_saved(small_model, fit, recwarn, fields):
    """An exception in the hook of the checkpoints, which come later in it, at the first runaway or the second."""
    often = fields.get("max_rollbacks", 0)
    after = ", after 1 rollback" if often else ""
    said = rf"ran away in epoch {1 + often}: .* and 4\){after}. No checkpoint was saved: start again with a smaller"
    with pytest.raises(FloatingPointError, match=said):
        fit(small_model(), [EnergyAlarm(**fields), Ruin((1, 2))], max_epochs=4)
    assert sum("ran away" in str(w.message) for w in recwarn) == often


# As a program


def ruined(epochs: str, *arguments: Any, value: str = "1e6") -> list[Any]:
    """Arguments of a short run with all kinds of state."""
    ruin = f'[{{"class_path": "{__name__}.Ruin", "init_args": {{"epochs": {epochs}, "value": {value}}}}}]'
    short = ["--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 0, "--trainer.callbacks", ruin]
    kinds = ["--model.chain_start", "persistent", "--model.average_decay", 0.9]
    return ["fit", *SHORT, "--config", ROOT / "configs" / "mle.yaml", *short, *kinds, *arguments]


@pytest.fixture
def pair(tmp_path):
    """Two runs of four epochs that lose two; one was killed after the first of them. And what the resumed one said."""
    fields = ["--runaway.factor", 0.3, "--model.decay_interval", "step"]  # .3: a rate is rounded the same both ways
    whole, parts = (tmp_path / name / "digits-mle" / "0" for name in ("whole", "parts"))
    said = []
    for runs, epochs, resumed in (("whole", 4, None), ("parts", 2, None), ("parts", 4, parts)):
        again = ["--ckpt_path", resumed / "checkpoints" / "last.ckpt"] if resumed else []
        arguments = ruined("[1,2]", *fields, "--runs", tmp_path / runs, "--trainer.max_epochs", epochs, *again)
        with pytest.warns(UserWarning, match="ran away in epoch"):
            said.append(cli(*arguments)[1])
    return whole, parts, said[-1]


def test_a_run_that_goes_back_resumes_exactly(pair):
    """The same rows, each once, and the same checkpoint; after a loss, the state that was restored is measured."""
    whole, parts, said = pair
    assert "After 1 of 3 rollbacks, the energy learns at 0.3 times the rates of its settings\n" in said
    ours, theirs = checkpoint(whole), checkpoint(parts)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    tables = (run["persistent_chains"]["tables"] for run in (ours, theirs))
    torch.testing.assert_close(*tables, rtol=0, atol=0)
    states = [run["callbacks"]["EnergyAlarm"] for run in (ours, theirs)]
    assert states == [{"rollbacks": 2, "healthy_epoch": 3, "trusted": True}] * 2
    assert repeatable(whole).equals(repeatable(parts))
    ends = [row for row in rows(whole) if row["prior/rollbacks"]]
    assert [float(row["prior/rollbacks"]) for row in ends] == [0, 1, 2, 2]
    assert all(float(row["posterior/movement"]) < 1e3 for row in ends)


def test_the_end_after_the_last_rollback_is_told_in_a_sentence(tmp_path, capsys, recwarn):
    """The exit status is not 0, and the last checkpoint is of the state that it went back to."""
    fields = ["--runaway.max_rollbacks", 2, "--trainer.max_epochs", 5, "--runs", tmp_path]
    with pytest.raises(SystemExit) as ended:
        cli(*ruined("[1,2,3]", *fields, value=".nan"))
    assert ended.value.code == 2
    path = tmp_path / "digits-mle" / "0" / "checkpoints" / "last.ckpt"
    said = "error: The energy ran away in epoch 3: parameters are not finite and .*, after 2 rollbacks. Go on from the"
    remedy = "with a lower --model.energy_optimizer.learning_rate"
    assert re.match(f"{said} last checkpoint, --ckpt_path {re.escape(str(path))}, {remedy}", capsys.readouterr().err)
    assert sum("ran away" in str(w.message) for w in recwarn) == 2
    last = checkpoint(path.parents[1])
    assert last["callbacks"]["EnergyAlarm"] == {"rollbacks": 2, "healthy_epoch": 0, "trusted": True}
    assert last["epoch"] == 2
    assert all(tensor.abs().max() < 1e3 for tensor in last["state_dict"].values())
