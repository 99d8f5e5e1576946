"""A model of images that has only what ImageModel asks for: all that a run, its measures and its evaluation need."""

import csv
import json
import shutil
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import thermoebm
from tests.cli.test_train import assert_fault, checkpoint, cli, repeatable, rows
from thermoebm.cli.evaluate import main
from thermoebm.cli.train import CLI
from thermoebm.data import Digits
from thermoebm.modules import ImageModel
from thermoebm.optim import DecayedAdam
from thermoebm.study.planning.compose import compose
from thermoebm.study.planning.traces import trace_chains, trace_gradient

SPREAD = 0.5


class Mean(nn.Module):
    """An image for each pixel's mean."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(shape))


class Pixels(ImageModel):
    """Independent Gaussian pixels of learned means; the loss is their negative log density, but for a constant.

    Args:
        size: Of the grey images.
        rate: The learning rate.
    """

    def __init__(self, size: int = 8, rate: float = 0.05) -> None:
        super().__init__()
        self.mean = Mean((1, size, size))
        self.optimizer_settings = ((self.mean, DecayedAdam(rate, rate / 10)),)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, *sides = self.mean.pixels.shape
        return 1, *sides

    def networks(self) -> dict[str, nn.Module]:
        return {"mean": self.mean}

    @torch.no_grad()
    def generate(self, count: int, rng: torch.Generator) -> Tensor:
        return self.mean.pixels + SPREAD * self._normal((count, *self.image_shape), rng)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.mean.pixels.expand_as(x)

    def loss(self, batch: Any, rng: torch.Generator, step: int | None = None) -> Tensor:
        return (batch - self.mean.pixels).square().flatten(1).sum(-1).mean() / (2 * SPREAD**2)


MEASURED = [
    *("--gradient_variance.every_n_epochs", 1, "--gradient_variance.num_batches", 4, "--gradient_variance.blocks", 2),
    *("--fidelity.every_n_epochs", 1, "--fidelity.num_samples", 80, "--fidelity.sizes", "[40,60,80]"),
    *("--fidelity.extractor", "pixels", "--fidelity.splits", "[train,test]"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Epochs of four batches, pictures after each."""
    pictures = [
        {"class_path": f"thermoebm.callbacks.{name}", "init_args": {"every_n_epochs": 1}}
        for name in ("SampleGrid", "ReconstructionGrid")
    ]
    content = {
        "name": "pixels",
        "model": {"class_path": f"{__name__}.Pixels"},
        "data": {"class_path": "thermoebm.data.Digits", "init_args": {"batch_size": 75}},
        "best": {"monitor": "val/reconstruction_error"},
        "trainer": {
            **{"devices": 1, "max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, "log_every_n_steps": 1},
            **{"check_val_every_n_epoch": 1, "enable_progress_bar": False, "callbacks": pictures},
        },
    }
    (path := tmp_path_factory.mktemp("config") / "pixels.yaml").write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A run of two epochs, and what it said."""
    runs = tmp_path_factory.mktemp("runs")
    _, said = cli("fit", "-c", config, *MEASURED, "--runs", runs)
    return runs / "pixels" / "0", said


def test_it_is_trained_measured_and_kept(run):
    """What it learns is the images' mean; every measure of a run is there, and nothing of chains or latents."""
    folder, said = run
    table = rows(folder)
    assert said.startswith("Pixels on 1500 images; mean 64 parameters; cpu")
    errors = [float(row["val/reconstruction_error"]) for row in table if row["val/reconstruction_error"]]
    assert len(errors) == 2
    assert errors[1] < errors[0]
    groups = {name.split("/")[0] for name in table[0]}
    expected = {"step", "epoch", "train", "training", "val", "cost", "fidelity", "gradient_variance", "gradient_mean"}
    assert groups == expected
    assert {name for name in table[0] if name.startswith(("train/", "val/"))} == {
        *("train/loss", "val/loss", "val/reconstruction_error")
    }
    written = {path.parent.name for path in folder.rglob("epoch-0002.png")}
    assert written == {"samples", "reconstructions", "gradient_variance"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} >= {"last.ckpt", "best.ckpt"}
    # Two operations for each pixel and image: none that torch counts.
    assert {row["cost/flops"] for row in table if row["cost/flops"]} == {"0.0"}


def test_gradient_variance_is_that_of_the_batchs_mean(run):
    """(mean - x̄)/σ² over batches of 75: its variance over the data is known, and there is no other noise."""
    (row,) = [row for row in rows(run[0]) if row["epoch"] == "1" and row["gradient_variance/per_parameter/total/mean"]]
    found = {q: float(row[f"gradient_variance/per_parameter/{q}/mean"]) for q in ("total", "data", "sampler")}
    assert found["sampler"] == 0
    assert found["total"] == pytest.approx(found["data"])
    data = Digits()
    data.prepare_data()
    data.setup()
    x = data.train_images.double() / 127.5 - 1
    expected = (x.var(0).mean() / 75 / SPREAD**4).item()
    assert found["total"] == pytest.approx(
        expected, rel=4 * float(row["gradient_variance/per_parameter/total_se/mean"]) / found["total"]
    )


def test_a_resumed_run_is_the_uninterrupted_one(config, run, tmp_path):
    """Bit by bit: ended after its first epoch and resumed in its own directory."""
    runs = ["--runs", tmp_path / "parts"]
    cli("fit", "-c", config, *MEASURED, *runs, "--trainer.max_epochs", 1)
    parts = tmp_path / "parts" / "pixels" / "0"
    cli("fit", "-c", config, *MEASURED, *runs, "--ckpt_path", parts / "checkpoints" / "last.ckpt")
    whole, resumed = checkpoint(run[0]), checkpoint(parts)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        torch.testing.assert_close(resumed[key], whole[key], rtol=0, atol=0)
    pd.testing.assert_frame_equal(repeatable(parts), repeatable(run[0]))


def test_it_is_loaded_validated_drawn_from_and_evaluated(config, run, tmp_path, capsys):
    """From its checkpoint alone; of evidence it has none, and its chains are not asked for."""
    path = run[0] / "checkpoints" / "last.ckpt"
    (alone := tmp_path / "alone").mkdir()
    shutil.copy(path, alone / "pixels.ckpt")
    model = thermoebm.load(alone / "pixels.ckpt")
    assert type(model) is Pixels
    assert torch.equal(model.mean.pixels, checkpoint(run[0])["state_dict"]["mean.pixels"])
    assert type(Pixels.load_from_checkpoint(alone / "pixels.ckpt")) is Pixels

    program, _ = cli("validate", "-c", config, "--ckpt_path", path)
    logged = [row["val/loss"] for row in rows(run[0]) if row["val/loss"]]
    assert program.trainer.callback_metrics["val/loss"].item() == pytest.approx(float(logged[-1]), rel=1e-6)
    _, said = cli("predict", "-c", config, "--ckpt_path", path, "--num_samples", 7)
    assert said.startswith("7 samples are in ")

    output = tmp_path / "out"
    settings = ["--num_samples", "100", "--extractor", "pixels", "--evidence_images", "40", "--gradient_variance"]
    main(["--checkpoint", str(alone / "pixels.ckpt"), "--output", str(output), *settings, "--device", "cpu"])
    (row,) = csv.DictReader((output / "metrics.csv").read_text("utf-8").splitlines())
    assert float(row["reconstruction_error"]) > 0
    assert float(row["FD[pixels]"]) > 0
    assert float(row["gradient_variance/per_parameter/total/mean"]) > 0
    assert not [name for name in row if "evidence" in name and name != "evidence_images"]
    assert {path.name for path in output.rglob("*.png")} == {"samples.png", "reconstructions.png", "extrapolation.png"}

    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["--checkpoint", str(path), "--output", str(tmp_path / "chains"), *settings, "--chains"])
    told = capsys.readouterr().err
    assert told == f"error: {path}: --chains compares the chains of a LatentEBM, and Pixels has none.\n"


def test_a_study_composes_it_and_predicts_its_work(config):
    """Its gradient and its draws take no matrix product and no convolution, and none of its parts has another kind."""
    model = compose(CLI, [config], {"model.rate": 0.01}, 3).model
    assert model.optimizer_settings[0][1].learning_rate == 0.01
    (gradient,), (reconstruction, images) = trace_gradient(model).values(), trace_chains(model)
    assert all(operation.flops == 0 for part in (gradient, reconstruction, images) for operation in part.one)
    written = 75 * 64 * 4  # float32
    for part in (gradient, images):
        assert sum(operation.bytes for operation in part.one) > written


def test_it_trains_in_python_and_repeats_itself():
    """Without a command line; the same numbers twice."""
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Pixels()
        trainer = pl.Trainer(
            **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "limit_train_batches": 3, "logger": False},
            **{"enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False},
            **{"limit_val_batches": 1},
        )
        trainer.fit(model, datamodule=Digits(batch_size=20))
        found.append(model.mean.pixels.detach())
    assert torch.equal(*found)
    assert found[0].abs().max() > 0


def test_images_of_another_size_are_told_before_anything_is_written(config, capsys, tmp_path):
    said = "Pixels: the generator makes images of shape (1, 9, 9), the data set has (1, 8, 8)"
    assert_fault(capsys, tmp_path / "none", said, "fit", "-c", config, "--model.size", 9)


def test_a_model_that_lacks_a_part_cannot_be_made():
    parts = {"image_shape", "networks", "generate", "reconstruct", "loss"}
    assert ImageModel.__abstractmethods__ == parts
    for name in parts:
        kind = type("Partly", (Pixels,), {name: getattr(ImageModel, name)})
        with pytest.raises(TypeError, match=name):
            kind()
