"""The callback that measures the evidence: what it logs, that training is the same, and that the best can be its."""

import math
from functools import partial

import lightning.pytorch as pl
import pytest
import torch

from thermoebm.callbacks import AnnealedEvidence, BestCheckpoint
from thermoebm.data import Digits
from thermoebm.modules import annealed, starts
from thermoebm.modules.annealed import Annealing, annealed_evidence, dequantised
from thermoebm.runtime import progress
from thermoebm.samplers import run_pilot
from thermoebm.schedules import power_law

NAMES = {"val/evidence", "val/evidence_se", "val/evidence_mc_se"}
FEW = {"every_n_epochs": 1, "count": 6, "steps": 3}


def evidence_of(metrics):
    return {name: value.item() for name, value in metrics.items() if name.startswith("val/evidence")}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer starts and shorter pilots than a measurement needs."""
    monkeypatch.setattr(Annealing.__init__, "__defaults__", (4, 125, 1000, 0.25, 5, 40))
    monkeypatch.setattr(annealed, "_PILOT", power_law(4, 5.0))
    monkeypatch.setattr(starts, "_PILOT", 4)
    monkeypatch.setattr(starts, "_APART", 3)
    for module in (annealed, starts):
        monkeypatch.setattr(module, "run_pilot", partial(run_pilot, steps=4))


@pytest.mark.parametrize("decay", [None, 0.9])
def test_it_is_the_annealed_evidence_of_the_first_held_out_images(small_model, fit, decay):
    """Under the averaged weights, if there are any."""
    model = small_model(average_decay=decay)
    logged = evidence_of(fit(model, AnnealedEvidence(**FEW)).callback_metrics)
    data = Digits(batch_size=20)
    data.prepare_data()
    data.setup()

    def stream(name, *counters):
        return model.stream(f"annealed evidence {name}", *counters)

    x = torch.cat(list(dequantised(data.held_out_images[:6], model.device, stream)))
    with model.averaged_weights():
        value = annealed_evidence(model, x, Annealing(steps=3, max_steps=3), stream, None).images
    assert logged.keys() == NAMES
    assert logged["val/evidence"] == pytest.approx(value.value.mean().item(), rel=1e-6)
    assert logged["val/evidence_se"] == pytest.approx(value.value.std().item() / math.sqrt(6), rel=1e-6)
    assert logged["val/evidence_mc_se"] == pytest.approx(value.standard_error.square().sum().sqrt().item() / 6)


def test_training_is_the_same_with_and_without(small_model, fit):
    """Bit by bit, over two epochs; without it, or with an interval of 0, nothing is logged."""
    weights = []
    for given in (pl.Callback(), AnnealedEvidence(every_n_epochs=0), AnnealedEvidence(**FEW)):
        model = small_model()
        metrics = fit(model, given, max_epochs=2).callback_metrics
        assert bool(evidence_of(metrics)) == (getattr(given, "every_n_epochs", 0) == 1)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[1], weights[0])
    assert torch.equal(weights[2], weights[0])


def test_the_noise_is_the_same_each_time(small_model, fit):
    model, callback = small_model(), AnnealedEvidence(every_n_epochs=9, count=6, steps=3)
    trainer = fit(model, callback)  # the last epoch is measured too
    logged = {f"val/{name}": value for name, value in callback._measure(trainer, model).items()}
    assert evidence_of(trainer.callback_metrics) == pytest.approx(logged, rel=1e-6)


def test_the_best_can_be_chosen_by_it(small_model, tmp_path):
    """It is logged before the best is looked for: at the first epoch already."""
    callbacks = [BestCheckpoint("val/evidence", "max"), AnnealedEvidence(**FEW)]
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, callbacks=callbacks, default_root_dir=tmp_path, max_epochs=1,
        limit_train_batches=1, limit_val_batches=0, enable_model_summary=False, enable_progress_bar=False,
        log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(small_model(), datamodule=Digits(batch_size=20))
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"]["BestCheckpoint"]
    assert best["value"] == trainer.callback_metrics["val/evidence"].item()


def test_it_is_shown_as_a_measurement(small_model, fit):
    told = []
    progress.listen(lambda *report: told.append(report))
    try:
        fit(small_model(), AnnealedEvidence(**FEW), enable_progress_bar=False)
    finally:
        progress.listen(None)
    ours = [(done, total) for title, done, total in told if title == "annealed evidence"]
    assert ours[0][0] == 0
    assert ours[-1][0] == ours[-1][1] > 0


def test_a_network_that_is_not_finite_ends_no_training(small_model, fit):
    model = small_model()

    def spoil(*_):
        if model.global_step == 2:  # after the last step
            model.generator.layers[0].bias.data.fill_(math.nan)

    model.on_train_batch_end = spoil
    with pytest.warns(UserWarning, match="evidence was not measured at epoch 0. "):
        assert not evidence_of(fit(model, AnnealedEvidence(**FEW)).callback_metrics)


@pytest.mark.parametrize("fields", [{"every_n_epochs": -1}, {"count": 1}, {"chains": 3}, {"steps": 0}])
def test_impossible_settings(fields):
    with pytest.raises(ValueError, match=r"at least|must be"):
        AnnealedEvidence(**fields)
