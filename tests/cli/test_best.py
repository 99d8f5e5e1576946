"""The best checkpoint through the programs: what is told of it; train.py, evaluate.py and load on a folder of a run."""

import json
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

import thermoebm
from tests.cli.test_evaluate import FEATURES
from tests.cli.test_train import SHORT, assert_fault, checkpoint, cli
from thermoebm.applications import evaluation
from thermoebm.cli import evaluate, evidence

TINY = (*SHORT, "--trainer.limit_train_batches", 2, "--trainer.check_val_every_n_epoch", 1)


class Logs(pl.Callback):
    """Logs ``mine``, whose second epoch is the best."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("mine", abs(trainer.current_epoch - 1.0))


MINE = ("--trainer.callbacks", json.dumps([{"class_path": f"{__name__}.Logs"}]), "--best.monitor", "mine")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three epochs, and what it said."""
    folder = tmp_path_factory.mktemp("runs")
    _, said = cli("fit", *TINY, *MINE, "--trainer.max_epochs", 3, "--runs", folder)
    return folder / "digits" / "0", said


def bytes_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "predict" not in path.parts}


def best_of(run):
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)


def test_the_closing_lines_tell_of_the_best(run):
    place, said = run
    assert said.splitlines()[-2] == "best.ckpt is of epoch 2: mine 0"
    assert (best_of(place)["epoch"], checkpoint(place)["epoch"]) == (1, 2)


def test_a_runs_folder_is_loaded_with_which(run):
    place, _ = run
    for which, content in (("best", best_of(place)), ("last", checkpoint(place))):
        weights = thermoebm.load(place, which=which).state_dict()
        torch.testing.assert_close(weights, content["state_dict"], rtol=0, atol=0)
    assert torch.equal(*(next(thermoebm.load(*given).parameters()) for given in ((place,), (place, "last"))))


def test_predict_takes_a_runs_folder_and_writes_there(run):
    place, _ = run
    config = ["--config", place / "config.yaml", "--num_samples", 3]
    for number, which in enumerate(("best", "last")):
        cli("predict", *config, "--ckpt_path", place, "--which", which)
        model = thermoebm.load(place, which)
        drawn = np.load(place / "predict" / str(number) / "samples.npy")
        assert np.array_equal(drawn, model.generate(3, model.stream("predict", 0)).numpy())


def test_a_run_from_its_best_leaves_the_later_epochs_alone(run):
    """A folder of its own; what it trains is what the run trained then."""
    place, _ = run
    before = bytes_of(place)
    more = ["--ckpt_path", place, "--which", "best", "--runs", place.parents[1], "--trainer.max_epochs", 3]
    _, said = cli("fit", *TINY, *MINE, *more)
    other = place.with_name("1")
    assert bytes_of(place) == before
    origin = f"Going on from epoch 2 of {place}/checkpoints/best.ckpt in a folder of its own: nothing of that run is"
    assert f"{origin} changed\nWriting to {other};" in said
    torch.testing.assert_close(checkpoint(other)["state_dict"], checkpoint(place)["state_dict"], rtol=0, atol=0)
    assert "best.ckpt is of epoch 3: mine 1" in said


def test_rows_that_are_dropped_are_told(tmp_path):
    """An older checkpoint that was put in the place of last.ckpt goes on in the run's own folder."""
    given = [*TINY, *MINE, "--runs", tmp_path]
    cli("fit", *given, "--trainer.max_epochs", 4)
    place = tmp_path / "digits" / "0"
    (place / "checkpoints" / "best.ckpt").rename(place / "checkpoints" / "last.ckpt")
    _, said = cli("fit", *given, "--trainer.max_epochs", 3, "--ckpt_path", place)
    assert f"{place}/metrics.csv: the rows of epoch 3 to 4 are dropped, which is trained again" in said


def test_monitors_are_checked_at_the_start_and_the_default_needs_nothing(tmp_path, capsys):
    said = "best.monitor is val/los, which nothing logs; the nearest name is val/loss."
    assert_fault(capsys, tmp_path / "runs", said, "fit", *TINY, "--best.monitor", "val/los")
    none = ["--trainer.limit_val_batches", 0, "--runs", tmp_path]
    said = "best.monitor is val/loss, which this run does not measure: trainer.limit_val_batches is 0."
    assert_fault(capsys, tmp_path / "runs", said, "fit", *TINY, *none[:2], "--best.monitor", "val/loss")
    _, said = cli("fit", *TINY, *none)
    assert "best.ckpt" not in said
    assert [path.name for path in (tmp_path / "digits" / "0" / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("name", ["val/short_run_nll", "fidelity/test/KD_inf", "fidelity/train/KD_inf", "mine"])
def test_a_choice_by_held_out_images_is_remarked_of_the_best_only(run, tmp_path, name):
    place, _ = run
    for which, content in (("best", best_of(place)), ("last", checkpoint(place))):
        content["callbacks"]["BestCheckpoint"]["monitor"] = name
        torch.save(content, path := tmp_path / f"{which}.ckpt")
        remarks = evaluation.choice(path)
        assert len(remarks) == (which == "best" and name.startswith(("val/", "fidelity/test/")))
        assert all(f"best.ckpt was chosen by {name}, a measure of the held-out images" in told for told in remarks)


def test_evaluate_takes_the_best_of_folders(run, tmp_path, capsys):
    """Under a label of its own, with the remark in the JSON; runs without one are left out, and that is told."""
    place, _ = run
    content = best_of(place)
    content["callbacks"]["BestCheckpoint"]["monitor"] = "val/loss"
    for name in ("0", "1"):
        (tmp_path / "a" / name / "checkpoints").mkdir(parents=True)
        torch.save(content, tmp_path / "a" / name / "checkpoints" / "last.ckpt")
    torch.save(content, tmp_path / "a" / "0" / "checkpoints" / "best.ckpt")
    given: list[Any] = ["--checkpoint", tmp_path / "a", "--which", "best", "--output", tmp_path / "out"]
    evaluate.main([*map(str, given), *FEATURES[:-1], "none"])
    (result,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["results"]
    said = capsys.readouterr().out
    assert result["label"] == "a-0-best"
    assert "best.ckpt was chosen by val/loss" in result["remarks"][0]
    assert said.count("best.ckpt was chosen by val/loss") == 1
    assert f"There is no best.ckpt beside {tmp_path}/a/1/checkpoints/last.ckpt: its run is left out." in said


@pytest.mark.parametrize("program", [evaluate, evidence])
def test_a_folder_without_a_best_is_told_in_a_sentence(program, tmp_path, capsys):
    start = ["--checkpoint"] if program is evaluate else []
    with pytest.raises(SystemExit, match=r"^2$"):
        program.main([*start, str(tmp_path), "--which", "best", "--output", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert said.startswith(f"error: There is no best.ckpt in the folder {tmp_path}; a run keeps one if")
    assert said.count("\n") == 1
