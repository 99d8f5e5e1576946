"""The callback: what it logs is what the metrics say, and training does not notice it."""

import math

import lightning.pytorch as pl
import pytest
import torch

from tests.cli.test_train import SHORT, assert_fault
from tests.extractors import Flat
from thermoebm.callbacks import GenerationMetrics
from thermoebm.data import Digits
from thermoebm.metrics import FrechetDistance, kernels
from thermoebm.modules import generation

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


@pytest.mark.parametrize("splits", [["train"], ["test"], ["test", "train"]])
def test_what_is_logged_is_the_distance_of_the_models_samples(small_model, splits):
    """Recomputed by hand: 80 samples of the trained model, 80 images of each split; names say which split."""
    model = train(small_model(), watched := callback(splits=splits), log := Log())
    (logged,) = log.epochs
    name = "tests.extractors.Flat"
    assert set(logged) == {
        f"fidelity/{split}/{distance}[{name}]{what}"
        for split in splits
        for distance in ("FD", "KD", "KD-rbf")
        for what in ("", "_inf", "_inf_se", "_slope", "_r2")
    }
    fake = generation.draw(model, 80, lambda i: model.stream("generation metrics", 1, i))
    levels = ((fake.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    data = Digits()
    for split, all_images in (("train", data.train_images), ("test", data.held_out_images)):
        if split not in splits:
            continue
        real, sizes = watched._real[split]
        x, y = Flat()(real.float() / 127.5 - 1), Flat()(levels)
        frechet = FrechetDistance(16)
        frechet.update(x, real=True)
        frechet.update(y, real=False)
        assert logged[f"fidelity/{split}/FD[{name}]"] == pytest.approx(frechet.compute().item(), rel=1e-5)
        kernel = kernels.mmd2(x, y, kernels.poly).item()
        assert logged[f"fidelity/{split}/KD[{name}]"] == pytest.approx(kernel, rel=1e-5)
        assert 0 < logged[f"fidelity/{split}/KD[{name}]_inf_se"] < math.inf
        assert sizes == SIZES
        images = {tuple(image.flatten().tolist()) for image in all_images}
        assert {tuple(image.flatten().tolist()) for image in real} <= images


def test_one_set_of_samples_serves_both_splits_and_a_split_has_the_numbers_that_it_has_alone(small_model, monkeypatch):
    drawn = []

    def draw(model, count, *arguments):
        drawn.append(count)
        return generate(model, count, *arguments)

    generate = generation.draw
    monkeypatch.setattr(generation, "draw", draw)
    train(small_model(), callback(splits=["train", "test"]), both := Log())
    assert drawn == [80]
    together = {}
    for split in ("train", "test"):
        train(small_model(), callback(splits=[split]), alone := Log())
        together |= alone.epochs[0]
    assert both.epochs[0] == together
    assert len(together) == 30


@pytest.mark.parametrize("chosen", [["rbf"], ["poly"], []])
def test_only_the_kernels_asked_for_are_measured(small_model, chosen):
    """The Fréchet distance always, kernel distances by choice; what is left has the value it has in full company."""
    train(small_model(), callback(), full := Log())
    train(small_model(), callback(kernels=chosen), log := Log())
    names = {"poly": "KD[", "rbf": "KD-rbf["}
    kept = tuple(f"fidelity/train/{name}" for name in ["FD[", *(names[kernel] for kernel in chosen)])
    assert log.epochs[0] == {name: value for name, value in full.epochs[0].items() if name.startswith(kept)}
    assert len(log.epochs[0]) == 5 * (1 + len(chosen))


def test_every_second_epoch_and_the_last_are_measured_on_the_same_noise(small_model):
    train(small_model(), callback(), log := Log(), epochs=5)
    values = [epoch.get("fidelity/train/FD[tests.extractors.Flat]") for epoch in log.epochs]
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
        assert math.isnan(epoch["fidelity/train/FD[tests.extractors.Flat]_inf_se"])
        assert math.isfinite(epoch["fidelity/train/FD[tests.extractors.Flat]_inf"])


def test_faults_are_told_before_training(small_model, capsys):
    for arguments, said in (
        ({"sizes": [400, 500, 600]}, "There are 80 images, fewer than the smallest size, 400"),
        ({"extractor": "nonsense"}, "There is no extractor 'nonsense'"),
        ({"splits": ["test"], "sizes": None, "num_samples": 15}, "15 images: too few"),
        ({"splits": ["train", "test"], "sizes": [298, 299, 300], "num_samples": 300}, "There are 297 images"),
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
    for splits in ([], ["train", "train"], ["val"]):
        with pytest.raises(ValueError, match=r"GenerationMetrics: splits is .*; give \[train\], \[test\] or both"):
            callback(splits=splits)
    train(small_model(), callback(sizes=None))
    assert "GenerationMetrics, train: Sizes 1000 to 4500 are scaled down to 18 to 80" in capsys.readouterr().out


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
