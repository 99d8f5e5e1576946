"""A study of version 0.1.0 with its runs and checkpoints, shrunk: whatever is renamed, it loads and goes on.

It was made by ``python -m thermoebm.study run tests/kept/study.yaml --jobs 1 --threads 1`` at commit 3bf9069; pictures,
event files and logs are left out. ``generated.npy`` has four images of each model, (4, 1, 8, 8), drawn with seed 0.
"""

import shutil

import numpy as np
import pytest
import torch

import thermoebm
from tests import ROOT
from tests.cli.test_train import cli, rows
from thermoebm.cli.train import CLI
from thermoebm.runs.checkpoints import load_data
from thermoebm.study.analysis.collect import collect
from thermoebm.study.planning.file import read
from thermoebm.study.running import board

KEPT = ROOT / "tests" / "kept"
RUNS = sorted(path.name for path in (KEPT / "folder" / "runs").iterdir())


@pytest.fixture
def kept(tmp_path):
    """The study's folder, to be written in."""
    return shutil.copytree(KEPT / "folder", tmp_path / "kept")


@pytest.mark.parametrize("run", RUNS)
def test_its_models_make_the_same_images(run):
    """To rounding: processors differ in their last bits."""
    place = KEPT / "folder" / "runs" / run
    model = thermoebm.load(place / "0" / "checkpoints" / "last.ckpt")
    images = model.generate(4, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(images, np.load(place / "generated.npy"), rtol=0, atol=1e-5)
    assert load_data(place / "0" / "checkpoints" / "last.ckpt").image_shape == model.generator.image_shape


@pytest.mark.parametrize("run", RUNS)
def test_its_runs_go_on_in_their_own_folders(kept, run):
    """Which they do as the same model and data only, class paths included; what was logged stays to the letter."""
    place = kept / "runs" / run
    before = rows(place / "0")
    cli(
        *("fit", "--config", place / "config.yaml", "--runs", place.parent, "--threads", 1),
        *("--ckpt_path", place / "0" / "checkpoints" / "last.ckpt", "--trainer.max_epochs", 3),
        *("--gradient_variance.every_n_epochs", 0, "--fidelity.every_n_epochs", 0),
    )
    assert [path.name for path in place.glob("*/metrics.csv")] == ["metrics.csv"]
    after = rows(place / "0")
    assert [{name: row[name] for name in before[0]} for row in after[: len(before)]] == before
    assert {row["epoch"] for row in after[len(before) :]} == {"2"}


def test_its_file_names_the_same_runs_and_all_are_done(kept):
    study = read(KEPT / "study.yaml", CLI)
    assert sorted(run.hash for run in study.runs) == RUNS
    assert board.status(study, kept)[-1].split() == ["all", "2", "0", "0", "0"]


def test_its_tables_are_collected_to_the_letter(kept):
    before = {name: (kept / name).read_bytes() for name in ("results.csv", "final.csv")}
    for name in before:
        (kept / name).unlink()
    collect(kept)
    for name, content in before.items():
        assert (kept / name).read_bytes() == content
