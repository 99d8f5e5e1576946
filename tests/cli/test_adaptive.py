"""A run whose temperatures follow the model: it is resumed as if it had never stopped."""

import torch

import thermoebm
from tests.cli.test_train import SHORT, checkpoint, cli
from thermoebm.schedules import power_law

ADAPTIVE = [
    *("--model.objective.schedule", "thermoebm.schedules.Adaptive"),
    *("--model.objective.schedule.num_intervals", 4, "--model.objective.schedule.rate", 0.2),
    *("--model.objective.evidence_every", 2),
    *("--trainer.limit_train_batches", 3),
]


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """Bit by bit: networks, temperatures and optimisers, two epochs in one run and in two."""
    run = ["fit", *SHORT, *ADAPTIVE, "--runs"]
    cli(*run, tmp_path / "whole", "--trainer.max_epochs", 2)
    cli(*run, tmp_path / "parts", "--trainer.max_epochs", 1)
    whole, parts = (tmp_path / name / "digits" / "0" for name in ("whole", "parts"))
    half = checkpoint(parts)["state_dict"]["objective_state.points"]
    last = parts / "checkpoints" / "last.ckpt"
    cli(*run, tmp_path / "elsewhere", "--trainer.max_epochs", 2, "--ckpt_path", last)
    first, second = (checkpoint(path)["state_dict"] for path in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    points = first["objective_state.points"]
    assert not torch.equal(points, half)
    assert not torch.equal(half, power_law(4, 6.0))
    loaded = thermoebm.load(last)  # the resumed run's
    assert torch.equal(loaded.objective.schedule.temperatures(), points)
