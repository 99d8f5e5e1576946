"""The alarms for training that has broken down, and for gradients that vanish in saturated images."""

import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from tests.callbacks.test_generation_metrics import train
from tests.cli.test_train import SHORT, checkpoint, cli
from thermoebm.callbacks import NotFiniteAlarm, ZeroGradientAlarm
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.schedules import PowerLaw


def test_weights_that_are_not_finite_end_training_with_their_network(small_model):
    """The step with an infinite rate is made, the next one is not; a healthy run ends well."""
    model = small_model()
    train(model, NotFiniteAlarm(), epochs=2)
    model.energy.requires_grad_(False)
    model.on_before_optimizer_step = lambda adam: adam.param_groups[1].update(lr=float("inf"))
    with pytest.raises(FloatingPointError, match="in step 1 of epoch 0: first the weights of the generator"):
        train(model, NotFiniteAlarm(), epochs=2)


def test_one_number_is_enough(small_model):
    model = small_model()
    model.energy.layers[0].bias.data[3] = float("inf")
    with pytest.raises(FloatingPointError, match="in epoch 7: parameters of the energy are not finite"):
        NotFiniteAlarm().on_train_epoch_end(stopped(), model)


def stopped(*paths, resumed=None):
    """A trainer in epoch 7 whose callbacks say that they saved these."""
    keepers = [SimpleNamespace(last_model_path="", best_model_path=str(path)) for path in paths]
    return SimpleNamespace(current_epoch=7, checkpoint_callbacks=keepers, ckpt_path=resumed)


def test_the_way_back_is_a_checkpoint_that_is_there(small_model, tmp_path):
    """Saved in this run, or else the one that it was resumed from; a file that is gone is none."""
    model, there, gone = small_model(), tmp_path / "there.ckpt", tmp_path / "gone.ckpt"
    model.energy.layers[0].bias.data[3] = float("nan")
    there.touch()
    nothing = r"not finite\. No checkpoint was saved: start again with lower learning rates\.$"
    back = rf"not finite\. Go on from the last checkpoint, --ckpt_path {there}, with lower learning rates\.$"
    cases = [
        stopped(),
        stopped(gone, ""),
        stopped(there),
        stopped(gone, resumed=str(there)),
        stopped(resumed=str(gone)),
    ]
    for trainer, said in zip(cases, (nothing, nothing, back, back, nothing), strict=True):
        with pytest.raises(FloatingPointError, match=said):
            NotFiniteAlarm().on_train_epoch_end(trainer, model)


def saturated(small_model, objective, share=1.0):
    """A model whose images have this share of pixels at 1, with preactivations of 20."""
    model = small_model(objective=objective)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    image = torch.full((64,), 0.5).index_fill(0, torch.arange(round(64 * share)), 20.0).view(1, 8, 8)
    model.generator.layers.insert(len(model.generator.layers) - 1, Plus(image))
    return model


class Plus(torch.nn.Module):
    """Adds an image."""

    def __init__(self, image):
        super().__init__()
        self.image = torch.nn.Parameter(image)

    def forward(self, x):
        return x + self.image


@pytest.mark.parametrize(
    ("estimator", "networks"), [("endpoints", ["generator"]), ("pathwise", ["energy", "generator"])]
)
def test_saturated_images_are_told_as_the_cause(small_model, fit, recwarn, estimator, networks):
    """1 - tanh(20)² is zero; pathwise, the energy's gradient comes by the images too."""
    model = saturated(small_model, ThermodynamicIntegration(estimator, PowerLaw(2)))
    fit(model, ZeroGradientAlarm())
    said = [str(warning.message) for warning in recwarn if "zero gradient" in str(warning.message)]
    assert [sentence.split()[1] for sentence in said] == networks
    for sentence in said:
        assert "saturated at ±1" in sentence
        assert sentence.endswith("start again with a lower --model.generator_optimizer.learning_rate.")
        assert "objective" not in sentence


def test_an_objective_is_still_blamed_for_what_images_do_not_explain(small_model, fit, recwarn):
    """Saturated images, and an energy that its objective detaches; images of which half are saturated."""
    objective = ThermodynamicIntegration("detached", PowerLaw(2))
    objective.without_gradient = tuple  # as if it did not know
    fit(saturated(small_model, objective), ZeroGradientAlarm())
    energy, generator = (str(w.message) for w in recwarn if "zero gradient" in str(w.message))
    assert "objective" in energy
    assert "saturated" in generator
    model, alarm = saturated(small_model, MaximumLikelihood(), share=0.5), ZeroGradientAlarm()
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(forward_context=torch.no_grad), current_epoch=0, callbacks=[]
    )
    model.energy.requires_grad_(False)
    alarm.on_before_optimizer_step(trainer, model, None)
    with pytest.warns(UserWarning, match="choose another objective than MaximumLikelihood"):
        alarm.on_train_epoch_end(trainer, model)


def test_a_broken_training_ends_in_a_sentence_and_keeps_the_checkpoint_before(tmp_path, capsys):
    """An infinite rate in the second epoch: last.ckpt is the first epoch's, finite, and no traceback is shown."""
    breaking = ["--trainer.callbacks+", f"{__name__}.Break", "--trainer.max_epochs", 3, "--runaway.on_runaway", "stop"]
    with pytest.raises(SystemExit) as ended:
        cli("fit", *SHORT, *breaking, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: Training broke down in epoch 1: parameters of the [a-z ]*generator are not .*\n", said)
    run = tmp_path / "digits" / "0"
    assert f"--ckpt_path {run / 'checkpoints' / 'last.ckpt'}, with lower" in said
    last = checkpoint(run)
    assert last["epoch"] == 0
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
    go_on = ["--ckpt_path", run / "checkpoints" / "last.ckpt", "--trainer.max_epochs", 2, "--runs", tmp_path]
    rates = ["--model.generator_optimizer.learning_rate", 2e-4]
    program, _ = cli("fit", *SHORT, *go_on, *rates, "--trainer.limit_train_batches", 1)
    assert program.trainer.optimizers[0].param_groups[1]["initial_lr"] == 2e-4


class Break(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[1]["lr"] = float("inf")
