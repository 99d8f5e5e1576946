"""Gradient variance of held-out images while a model trains: the numbers, their names, what is refused."""

import csv

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.callbacks.test_gradient_variance import fit, logged
from thermoebm.callbacks import GradientVariance
from thermoebm.data import Digits
from thermoebm.gradients.draws import measure
from thermoebm.gradients.statistics import Design


def test_held_out_draws_are_logged_under_names_of_their_own(small_model, tmp_path):
    """The numbers are those of measuring by hand the model after its epoch; the training draws' are those without."""
    model = small_model()
    fit(model, tmp_path / "both", GradientVariance(2, 4, 2, 2, splits=["train", "test"]), epochs=2)
    drawn = []
    with torch.inference_mode(False):
        state = measure(
            model.loss,
            model.train(),
            Digits(batch_size=20).test_dataloader(),
            model.stream("gradient variance test", 1),
            model.stream("gradient variance test data", 1),
            Design(4, 2, 2),
            observe=lambda gradient: drawn.append(torch.cat([g.flatten() for g in gradient]).double()),
        )
    report = state.report()
    for part in ("energy", "generator", "both"):
        for quantity, estimate in report[part].items():
            name = f"gradient_variance/test/per_parameter/{quantity}"
            assert logged(tmp_path / "both", f"{name}/{part}") == [pytest.approx(estimate.value, rel=1e-6)]
            assert logged(tmp_path / "both", f"{name}_se/{part}") == [pytest.approx(estimate.standard_error, rel=1e-6)]
    across = torch.stack(drawn)
    for kind, value in (("variance", across.var(1, correction=0)), ("mean", across.mean(1))):
        name = f"gradient_{kind}/test/across_parameters/both"
        assert logged(tmp_path / "both", name) == [pytest.approx(value.mean().item(), rel=1e-4)]
    with (tmp_path / "both" / "gradient_variance" / "test" / "epoch-0002.csv").open(newline="") as file:
        table = {row["part"]: float(row["total"]) for row in csv.DictReader(file)}
    assert table["both"] == pytest.approx(report["both"]["total"].value, rel=1e-6)
    assert (tmp_path / "both" / "gradient_variance" / "test" / "epoch-0002.png").is_file()
    tags = EventAccumulator(str(tmp_path / "both")).Reload().Tags()
    assert set(tags["images"]) == {"Overview/gradient_variance", "Overview/gradient_variance/test"}
    assert "gradient_variance/test/generator.layers.0.weight" in tags["histograms"]
    fit(small_model(), tmp_path / "alone", GradientVariance(2, 4, 2, 2), epochs=2)
    with (tmp_path / "alone" / "metrics.csv").open(newline="") as file:
        names = next(csv.reader(file))
    assert len(names) > 40
    assert not [name for name in names if "/test/" in name]
    for name in names:
        assert logged(tmp_path / "both", name) == logged(tmp_path / "alone", name)


def test_only_held_out_draws(small_model, tmp_path):
    """The gradients of training are looked at all the same."""
    fit(small_model(), tmp_path, GradientVariance(1, 4, 2, 2, splits=["test"]), epochs=1)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        names = next(csv.reader(file))
    assert not [name for name in names if name.startswith("gradient_variance/per_parameter")]
    assert {"gradient_variance/across_parameters/both", "gradient_variance/test/across_parameters/both"} < set(names)


def test_held_out_images_that_make_no_batch_are_told_before_training(small_model, tmp_path):
    model = small_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="a batch takes 20 images, and 19 are held out; take a smaller batch_size"):
        fit(model, tmp_path, GradientVariance(1, 4, 2, 2, splits=["test"]), data=Digits(batch_size=20, num_val=19))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
