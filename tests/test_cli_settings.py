"""The command line: overlays, threads, and what does not need it."""

import contextlib

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.test_cli import ROOT, SHORT, cli
from thermoebm.cli import choose_threads
from thermoebm.data import Digits
from thermoebm.networks import ConvGenerator


@pytest.mark.parametrize(
    ("overlay", "name", "objective"),
    [
        (None, "digits", "ThermodynamicIntegration(estimator='endpoints', "),
        ("mle", "mle", "MaximumLikelihood()"),
        ("ti", "ti", "ThermodynamicIntegration(estimator='contrastive', "),
    ],
)
def test_overlays_switch_the_objective_and_a_dev_run_leaves_nothing(tmp_path, overlay, name, objective):
    more = ["--config", ROOT / "configs" / f"{overlay}.yaml"] if overlay else []
    with contextlib.chdir(tmp_path):
        program, _ = cli("fit", *SHORT, *more, "--trainer.fast_dev_run", "true", "--seed_everything", 3)
    assert repr(program.model.objective).startswith(objective)
    assert program.config.fit.name == name
    assert (program.model.seed, program.datamodule.seed) == (3, 3)
    assert list(tmp_path.iterdir()) == []


def test_threads_are_one_where_a_batch_is_small_and_all_elsewhere(small_model, tmp_path):
    """auto: one core for 8x8 digits and for one image of 32x32, all of them for a batch of these."""
    torch.set_num_threads(2)
    assert choose_threads(small_model(), 75) == 1
    larger = small_model(generator=ConvGenerator(8, (3, 32, 32), features=8))  # 8.5 million operations an image
    assert [choose_threads(larger, batch_size) for batch_size in (75, 1)] == [2, 1]
    for threads, number in (("auto", 1), (2, 2)):
        with pytest.warns(UserWarning, match="predict without --ckpt_path uses an untrained model"):
            cli("predict", *SHORT, "--num_samples", 1, "--runs", tmp_path, "--threads", threads)
        assert torch.get_num_threads() == number


def test_validation_works_under_lightnings_default_of_inference_mode(small_model):
    """Without the command line, a plain Trainer measures the same evidence: Langevin's gradients are enabled by it."""
    measured = []
    for mode in (True, False):
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, inference_mode=mode)
        (metrics,) = trainer.validate(small_model(), datamodule=Digits(num_val=75), verbose=False)
        measured.append(metrics["val/evidence"])
    assert measured[0] == measured[1]
    assert np.isfinite(measured[0])
