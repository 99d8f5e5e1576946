"""Models with an encoder through the programs: what a run leaves, and what evaluations and studies make of it."""

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping

from tests import ROOT
from tests.cli.test_train import cli, rows
from thermoebm.callbacks import EnergyAlarm, TriangleAlarm
from thermoebm.cli import monitors
from thermoebm.cli.evaluate import main
from thermoebm.cli.train import CLI
from thermoebm.runtime.step_time import Rates
from thermoebm.study.planning.file import read
from thermoebm.study.planning.traces import Machine
from thermoebm.study.planning.work import Counter

CONFIGS = ROOT / "configs"
OF_VAE = ("loss", "reconstruction", "kl_to_prior", "evidence_bound")
OF_TRIANGLE = (*OF_VAE, "recovery", "energy_data", "energy_generated")
PICTURES = ("samples", "reconstructions", "interpolations", "energies")
#: By overlay: its variant, its networks, the scalars of its loss, and its pictures.
KINDS = {
    "vae": ("vae", ("generator", "encoder"), OF_VAE, PICTURES[:3]),
    "divergence_triangle": ("triangle", ("energy", "generator", "encoder"), OF_TRIANGLE, PICTURES),
}


def overlays(name: str) -> list[Any]:
    return ["-c", CONFIGS / "digits.yaml", "-c", CONFIGS / f"{name}.yaml"]


def small(name: str) -> list[Any]:
    """A run of two epochs of four batches; validation and pictures after each, and measured at its end."""
    pictures = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["trainer"]["callbacks"]
    for picture in pictures:
        picture["init_args"]["every_n_epochs"] = 1
    measured = [
        *("--gradient_variance.every_n_epochs", 2, "--gradient_variance.num_batches", 4),
        *("--gradient_variance.blocks", 2, "--gradient_variance.splits", "[train,test]"),
        *("--fidelity.every_n_epochs", 2, "--fidelity.splits", "[train,test]", "--fidelity.extractor", "pixels"),
        *("--fidelity.num_samples", 80, "--fidelity.sizes", "[40,60,80]"),
    ]
    short = [
        *("--trainer.max_epochs", 2, "--trainer.limit_train_batches", 4, "--trainer.limit_val_batches", 1),
        *("--trainer.check_val_every_n_epoch", 1, "--trainer.enable_progress_bar", "false"),
        *("--model.generator.features", 2, "--trainer.callbacks", json.dumps(pictures), "--runaway.max_rollbacks", 7),
    ]
    return [*overlays(name), *short, *measured]


class Done(NamedTuple):
    name: str  # of the overlay
    program: CLI
    said: str
    folder: Path  # of the run


@pytest.fixture(scope="module", params=KINDS)
def done(request, tmp_path_factory) -> Done:
    runs = tmp_path_factory.mktemp("runs")
    program, said = cli("fit", *small(request.param), "--runs", runs)
    return Done(request.param, program, said, runs / f"digits-{KINDS[request.param][0]}" / "0")


def last(done: Done) -> Path:
    return done.folder / "checkpoints" / "last.ckpt"


# Training


def test_a_run_leaves_its_pictures_and_the_best_by_the_evidence_bound(done):
    """After each epoch; the best is of the epoch whose bound on held-out images is the greater one."""
    _, networks, _, pictures = KINDS[done.name]
    for picture in pictures:
        assert [path.name for path in sorted((done.folder / picture).glob("*.png"))] == [
            "epoch-0001.png",
            "epoch-0002.png",
        ]
    assert not (done.folder / "integrand").exists()
    bounds = [float(row["val/evidence_bound"]) for row in rows(done.folder) if row["val/evidence_bound"]]
    best = torch.load(done.folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert len(bounds) == 2
    assert best["epoch"] == bounds.index(max(bounds))
    assert best["callbacks"]["BestCheckpoint"]["monitor"] == "val/evidence_bound"
    first, *others = (rf"{network} [\d,]+" for network in sorted(networks, key=lambda name: name != "generator"))
    named = ", ".join([first, *others[:-1]]) + f" and {others[-1]} parameters"
    assert re.match(rf"(VAE|DivergenceTriangle) on 1500 images; {named}; cpu, 32-true", done.said)


def test_a_run_logs_the_scalars_of_its_loss_and_of_its_alarm(done):
    """Of the steps and of the held-out images, and nothing of chains; the loss is minus the bound of a VAE."""
    _, networks, scalars, _ = KINDS[done.name]
    columns = rows(done.folder)[0].keys()
    in_groups = {
        group: {c.split("/", 1)[1] for c in columns if c.startswith(f"{group}/")} for group in ("train", "val")
    }
    assert in_groups == {"train": {*scalars}, "val": {*scalars, "reconstruction_error"}}
    assert {name for name in columns if name.startswith(("triangle/", "prior/", "posterior/"))} == {
        f"triangle/{name}" for name in ("energy_gap", "mean_square", "active_latents", "rollbacks")
    }
    assert {
        name for name in columns if name.startswith("gradient_variance/per_parameter/total/") and "." not in name
    } == {f"gradient_variance/per_parameter/total/{name}" for name in (*networks, "both")}
    (gap,) = {float(row["triangle/energy_gap"]) == 0 for row in rows(done.folder) if row["triangle/energy_gap"]}
    assert gap is (done.name == "vae")
    if done.name == "vae":
        for row in rows(done.folder):
            assert not row["train/loss"] or float(row["train/loss"]) == -float(row["train/evidence_bound"])


def test_what_is_logged_may_be_monitored_and_nothing_else_has_a_name(done):
    """The list of names is that of the metrics of a run that measures everything."""
    trainer, stop = done.program.trainer, EarlyStopping("")
    metrics = set(trainer.callback_metrics)
    trainer.callbacks.append(stop)
    try:
        for stop.monitor in metrics:
            monitors.check(trainer, done.program.model)
        stop.monitor = "train/nll"
        with pytest.raises(ValueError, match="train/nll, which nothing logs"):
            monitors.check(trainer, done.program.model)
    finally:
        trainer.callbacks.remove(stop)
    listed, off = monitors._logged(trainer, done.program.model)
    assert off == {}
    for name in listed:
        assert name in metrics or (name[-1] in "/-" and any(found.startswith(name) for found in metrics)), name


def test_the_alarm_is_that_of_models_with_an_encoder_and_has_the_settings_of_the_command_line(done):
    (alarm,) = [callback for callback in done.program.trainer.callbacks if isinstance(callback, EnergyAlarm)]
    assert type(alarm) is TriangleAlarm
    assert alarm.max_rollbacks == 7


# What others make of it


def test_it_is_validated_and_drawn_from(done, tmp_path):
    configs = [*small(done.name), "--ckpt_path", last(done), "--runs", tmp_path / "none"]
    logged = [float(row["val/evidence_bound"]) for row in rows(done.folder) if row["val/evidence_bound"]]
    program, _ = cli("validate", *configs)
    assert program.trainer.callback_metrics["val/evidence_bound"] == pytest.approx(logged[-1], rel=1e-6)
    _, said = cli("predict", *configs, "--num_samples", 7)
    folder = Path(re.match(r"7 samples are in (.*): samples.npy", said)[1])
    samples = np.load(folder / "samples.npy")
    assert samples.shape == (7, 1, 8, 8)
    assert folder.parents[1] == done.folder
    assert len(np.unique(samples.reshape(7, -1), axis=0)) == 7


def test_it_is_evaluated(done, tmp_path, capsys):
    """Two lower bounds of log p(x) in expectation: of many draws, and annealed."""
    few = ["--num_samples", "60", "--extractor", "pixels", "--evidence_images", "20", "--device", "cpu"]
    annealing = ["--evidence", "annealed", "--evidence_steps", "20", "--evidence_max_steps", "40"]
    main(["--checkpoint", str(last(done)), "--output", str(tmp_path / "out"), *few, *annealing, "--gradient_variance"])
    (row,) = csv.DictReader((tmp_path / "out" / "metrics.csv").read_text("utf-8").splitlines())
    found = {
        name: float(row[name]) for name in ("importance_bound", "importance_bound_se", "evidence", "evidence_mc_se")
    }
    assert all(map(np.isfinite, found.values()))
    assert abs(found["evidence"] - found["importance_bound"]) < 10
    assert int(row["importance_draws"]) == 500
    assert 1 <= float(row["importance_effective_size"]) <= 500
    assert not [name for name in row if name.startswith(("short_run", "log_z", "left_sum"))]
    shown = capsys.readouterr().out
    for network in KINDS[done.name][1]:
        assert f"gradient of {network}" in shown


def test_chains_are_refused_in_a_sentence(done, tmp_path, capsys):
    few = ["--num_samples", "60", "--extractor", "pixels", "--evidence", "none", "--device", "cpu", "--chains"]
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["--checkpoint", str(last(done)), "--output", str(tmp_path / "out"), *few])
    kind = type(done.program.model).__name__
    told = f"error: {last(done)}: --chains compares the chains of a LatentEBM, and {kind} has none.\n"
    assert capsys.readouterr().err == told


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of a cell for each overlay, and one without."""
    cells: list[dict[str, Any]] = [
        {"name": name, "group": "kinds", "configs": [str(CONFIGS / f"{name}.yaml")]} for name in KINDS
    ]
    content = {
        "name": "kinds",
        "configs": [str(CONFIGS / "digits.yaml")],
        "set": {"trainer.max_epochs": 2},
        "seeds": [0],
        "cells": [*cells, {"name": "chains", "group": "kinds"}],
    }
    (path := tmp_path_factory.mktemp("study") / "kinds.yaml").write_text(yaml.safe_dump(content))
    return read(path, CLI)


def test_a_study_composes_them_and_predicts_their_work(study):
    """Without chains it is less; with an energy, an encoder twice and images of it, more than without."""
    machine = Machine(Rates(matrix=1e9, convolution=1e9, bandwidth=1e9, launch=0.0, transposition=1e9))
    counter = Counter(lambda cell: machine)
    work = {cell.name: counter.work(cell) for cell in study.cells}
    flops = {name: part.training.flops for name, part in work.items()}
    assert all(part.steps == 40 for part in work.values())
    assert 0 < flops["vae"] < flops["divergence_triangle"] < flops["chains"]
    kinds = [run.config["model"]["class_path"].split(".")[-1] for run in study.runs]
    assert kinds == ["VAE", "DivergenceTriangle", "LatentEBM"]
    assert len({run.hash for run in study.runs}) == 3


# Faults
