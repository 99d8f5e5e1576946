"""The callback: what it logs is what the metrics say, and training does not notice it."""

import math

import lightning.pytorch as pl
import pytest
import torch

from tests.extractors import Flat
from tests.test_cli import SHORT, assert_fault
from thermoebm import generation
from thermoebm.callbacks import GenerationMetrics
from thermoebm.data import Digits
from thermoebm.metrics import FrechetDistance, kernels

SIZES = [40, 60, 80]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "cache"))


def callback(**arguments):
    return GenerationMetrics(
        **({"num_samples": 80, "sizes": SIZES, "extractor": "tests.extractors.Flat", "every_n_epochs": 2} | arguments)
    )


class Log(pl.Callback):
    """The metrics at the end of each epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append({k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("fidelity/")})


def train(model, *callbacks, epochs=1, **arguments):
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_train_batches=2,
        limit_val_batches=0,
        max_epochs=epochs,
    )
    trainer.fit(model, **({"datamodule": Digits(batch_size=20)} | arguments))
    return model


def test_what_is_logged_is_the_distance_of_the_models_samples(small_model):
    """Recomputed by hand: 80 samples of the trained model, 80 training images."""
    model = train(small_model(), watched := callback(), log := Log())
    (logged,) = log.epochs
    name = "tests.extractors.Flat"
    assert set(logged) == {
        f"fidelity/{distance}[{name}]{what}"
        for distance in ("FD", "KD", "KD-rbf")
        for what in ("", "_inf", "_inf_se", "_slope", "_r2")
    }
    fake = generation.draw(model, 80, lambda i: model.stream("generation metrics", 1, i))
    levels = ((fake.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    x, y = Flat()(watched._real.float() / 127.5 - 1), Flat()(levels)
    frechet = FrechetDistance(16)
    frechet.update(x, real=True)
    frechet.update(y, real=False)
    assert logged[f"fidelity/FD[{name}]"] == pytest.approx(frechet.compute().item(), rel=1e-5)
    assert logged[f"fidelity/KD[{name}]"] == pytest.approx(kernels.mmd2(x, y, kernels.poly).item(), rel=1e-5)
    assert 0 < logged[f"fidelity/KD[{name}]_inf_se"] < math.inf
    training = {tuple(image.flatten().tolist()) for image in Digits().train_images}
    assert {tuple(image.flatten().tolist()) for image in watched._real} <= training


@pytest.mark.parametrize("chosen", [["rbf"], ["poly"], []])
def test_only_the_kernels_asked_for_are_measured(small_model, chosen):
    """The Fréchet distance always, kernel distances by choice; what is left has the value it has in full company."""
    train(small_model(), callback(), full := Log())
    train(small_model(), callback(kernels=chosen), log := Log())
    names = {"poly": "KD[", "rbf": "KD-rbf["}
    kept = tuple(f"fidelity/{name}" for name in ["FD[", *(names[kernel] for kernel in chosen)])
    assert log.epochs[0] == {name: value for name, value in full.epochs[0].items() if name.startswith(kept)}
    assert len(log.epochs[0]) == 5 * (1 + len(chosen))


def test_every_second_epoch_and_the_last_are_measured_on_the_same_noise(small_model):
    train(small_model(), callback(), log := Log(), epochs=5)
    values = [epoch.get("fidelity/FD[tests.extractors.Flat]") for epoch in log.epochs]
    assert values[0] is None
    assert values[1] == values[2]
    assert len({values[1], values[3], values[4]}) == 3


def test_training_is_bit_for_bit_the_same_without_it(small_model):
    with_it = train(small_model(), callback(every_n_epochs=1), epochs=2)
    state = torch.get_rng_state()
    without = train(small_model(), epochs=2)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(with_it.state_dict().values(), without.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_biased_intercept_is_remarked_once_and_has_no_standard_error(small_model, capsys):
    """Sixteen features, of subsets of 16 images at least."""
    train(small_model(), callback(sizes=[16, 40, 80], every_n_epochs=1), log := Log(), epochs=2)
    assert capsys.readouterr().out.count("singular covariances of 16 images in 16 dimensions") == 1
    for epoch in log.epochs:
        assert math.isnan(epoch["fidelity/FD[tests.extractors.Flat]_inf_se"])
        assert math.isfinite(epoch["fidelity/FD[tests.extractors.Flat]_inf"])


def test_faults_are_told_before_training(small_model, capsys):
    for arguments, said in (
        ({"sizes": [400, 500, 600]}, "There are 80 images, fewer than the smallest size, 400"),
        ({"extractor": "nonsense"}, "There is no extractor 'nonsense'"),
        ({"split": "test", "sizes": None, "num_samples": 15}, "15 images: too few"),
    ):
        model = small_model()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(ValueError, match=said):
            train(model, callback(**arguments))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    loaders = {"train_dataloaders": Digits().train_dataloader(), "val_dataloaders": Digits().val_dataloader()}
    with pytest.raises(ValueError, match="needs the images of an ImageDataModule"):
        train(small_model(), callback(), datamodule=None, **loaders)
    with pytest.raises(ValueError, match="every_n_epochs is -1"):
        callback(every_n_epochs=-1)
    with pytest.raises(ValueError, match="There is no kernel 'cubic'"):
        callback(kernels=["rbf", "cubic"])
    train(small_model(), callback(sizes=None))
    assert "GenerationMetrics: Sizes 1000 to 4500 are scaled down to 18 to 80" in capsys.readouterr().out


def test_faults_are_told_in_a_sentence_by_the_command_line(capsys, tmp_path):
    added = ["--fidelity.every_n_epochs", 1]
    for option, value, said in (
        ("extractor", "nonsense", "There is no extractor 'nonsense'"),
        ("extractor", "torch.nn.Linear", "Extractor 'torch.nn.Linear' cannot be built without arguments: TypeError"),
        ("extractor", "tests.extractors.Square", "Square returned (1, 1, 8, 8) for 1 images"),
        ("num_samples", "15", "There are 15 images: too few"),
    ):
        arguments = ["fit", *SHORT, *added, f"--fidelity.{option}", value]
        assert_fault(capsys, tmp_path / "runs", said, *arguments)
