"""A last checkpoint that was damaged: it is refused, and the run goes on from the one before as if nothing had been."""

import functools
import shutil

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_train import checkpoint, cli, repeatable, rows
from tests.endurance.run import TINY, attempt, same, train
from thermoebm.cli import evaluate
from thermoebm.modules import LatentEBM
from thermoebm.runs import checkpoints, directories
from thermoebm.study.running import folder, worker


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs, undamaged."""
    return train(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def run(whole, tmp_path):
    """The same, with a bit of its last checkpoint flipped."""
    place = tmp_path / "digits" / "0"
    shutil.copytree(whole, place)
    data = bytearray((whole / "checkpoints" / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (place / "checkpoints" / "last.ckpt").write_bytes(data)
    return place


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_every_command_refuses_it_and_names_the_one_before(run, command):
    last = run / "checkpoints" / "last.ckpt"
    status, said = attempt(command, *TINY, "--runs", run.parents[1], "--ckpt_path", last)
    assert status == 2
    assert said.startswith(f"error: {last} is damaged: its record data/")
    beside = f"the newest valid checkpoint beside it is {run}/checkpoints/previous.ckpt, of epoch 1.\n"
    assert said.endswith(f" does not match its checksum; {beside}")
    assert said.count("\n") == 1


def test_evaluate_refuses_it(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--checkpoint", str(run), "--output", str(tmp_path / "out"), "--extractor", "pixels"])
    assert ended.value.code == 2
    assert "previous.ckpt, of epoch 1." in capsys.readouterr().err


def test_from_the_one_before_the_run_is_the_undamaged_one(whole, run):
    """In its own folder; table and TensorBoard have each step once."""
    previous = run / "checkpoints" / "previous.ckpt"
    _, said = cli("fit", *TINY, "--runs", run.parents[1], "--trainer.max_epochs", 2, "--ckpt_path", previous)
    assert [path.name for path in run.parent.iterdir()] == ["0"]
    assert f"{run}/metrics.csv: the rows of epoch 2 are dropped, which is trained again" in said
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert same(checkpoint(run)[key], checkpoint(whole)[key])
    pd.testing.assert_frame_equal(repeatable(run), repeatable(whole))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload().Scalars("train/loss")
    assert [event.step for event in events] == [int(row["step"]) for row in rows(run) if row["train/loss"]]
    assert checkpoints.load_checkpoint(previous)["epoch"] == 0  # the damaged one did not take its place


@pytest.mark.parametrize("fault", ["missing", "bad contents"])
def test_a_last_one_that_is_missing_or_useless_is_as_a_damaged_one(whole, run, fault):
    last = run / "checkpoints" / "last.ckpt"
    model = LatentEBM.load_from_checkpoint(whole / "checkpoints" / "last.ckpt")

    def continued():
        usable = functools.partial(checkpoints.is_valid, model=model, resumes=True)
        return directories.run_of(str(last.with_name("previous.ckpt")), usable)

    last.unlink()
    if fault != "missing":
        content = checkpoint(whole)
        del content["optimizer_states"]
        torch.save(content, last)
    assert continued() == run
    shutil.copy(whole / "checkpoints" / "last.ckpt", last)
    assert continued() is None


def test_with_a_whole_last_one_training_goes_on_in_a_folder_of_its_own(whole, run):
    shutil.copy(whole / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    previous = run / "checkpoints" / "previous.ckpt"
    _, said = cli("fit", *TINY, "--runs", run.parents[1], "--trainer.max_epochs", 2, "--ckpt_path", previous)
    assert f"Going on from epoch 1 of {previous} in a folder of its own" in said
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert same(checkpoint(run.with_name("1"))["state_dict"], checkpoint(whole)["state_dict"])


def test_a_studys_worker_goes_on_from_the_one_before_by_itself(run, tmp_path, capsys):
    assert worker._resumable(tmp_path / "digits") == (run / "checkpoints" / "previous.ckpt", 1)
    assert "data/" in capsys.readouterr().out
    (run / "checkpoints" / "previous.ckpt").write_text("")
    with pytest.raises(
        folder.Damaged, match=r"does not match its checksum; move the folder .*/0 away and run the study"
    ):
        worker._resumable(tmp_path / "digits")
    assert worker._resumable(tmp_path / "none") == (None, 0)
