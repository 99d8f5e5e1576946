"""What train.py fit, validate and test and evaluate.py say of the same weights."""

import math
from functools import cache
from statistics import fmean, stdev

import pytest

from tests.cli.test_train import SHORT, cli, rows
from thermoebm.applications import evaluation
from thermoebm.applications.held_out_images import held_out
from thermoebm.applications.settings import Settings

# The checkpoint's run validated on one batch; this is the first hundred held-out images, one batch and a part of one.
HUNDRED = [*SHORT, "--trainer.limit_val_batches", 1.0, "--data.num_val", 100]


@pytest.fixture(scope="module")
def measured(checkpoint):
    """What train.py validate and test say of the checkpoint, by stage and name."""

    @cache
    def metrics(stage, *arguments):
        metrics = cli(stage, *arguments, "--ckpt_path", checkpoint)[0].trainer.callback_metrics
        prefix = {"validate": "val/", "test": "test/"}[stage]
        assert all(name.startswith(prefix) for name in metrics)
        return {name.removeprefix(prefix): value.item() for name, value in metrics.items()}

    return metrics


def test_validate_says_what_training_logged_last(checkpoint, measured):
    """Bit by bit, for chains that are not compiled."""
    (run,) = (checkpoint.parents[3] / "runs" / "digits").iterdir()
    last = next(row for row in reversed(rows(run)) if row["val/short_run_evidence"])
    logged = {name.removeprefix("val/"): float(value) for name, value in last.items() if name.startswith("val/")}
    assert measured("validate", *SHORT) == logged
    assert len(logged) > 5


def test_test_says_what_validate_says(measured):
    """The same images and the same noise."""
    assert measured("test", *HUNDRED) == measured("validate", *HUNDRED)


def test_evaluate_says_the_same_up_to_noise(checkpoint, measured):
    """Over eight seeds, within four standard errors of one more draw; dequantisation adds 0.002 nats."""
    model, data = evaluation.load(checkpoint, Settings())
    validated = measured("validate", *HUNDRED)
    settings = [Settings(evidence="short", evidence_images=100, seed=seed) for seed in range(8)]
    draws = [held_out(model, data, each).scalars for each in settings]
    for name in ("reconstruction_error", "short_run_evidence", "left_sum", "right_sum"):
        values = [draw[name] for draw in draws]
        assert abs(fmean(values) - validated[name]) < 4 * stdev(values) * math.sqrt(1 + 1 / 8), name
        assert stdev(values) < 0.05 * abs(fmean(values)), name
    assert [(draw["evidence_images"], draw["held_out_images"]) for draw in draws] == 8 * [(100, 297)]
