"""Images whose file has a name that is not UTF-8, as old archives have: read, trained on, and found again."""

import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.test_train import SHORT, cli
from tests.data.own_images import encoded, noise, write
from thermoebm.runs import checkpoints
from thermoebm.runtime.files import as_text, from_text

OWN = (
    *("--data", "thermoebm.data.ImageFolder", "--data.image_size", 16, "--data.channels", 1, "--data.batch_size", 10),
    *("--model.generator.image_shape", "[1,16,16]", "--trainer.callbacks", "null"),
)


@pytest.fixture
def archive(tmp_path):
    """A zip of sixty pictures, as a shell names it."""
    files = {f"{i}.png": encoded(noise(16, 16)[..., 0]) for i in range(60)}
    made = write(tmp_path / "plain.zip", files, zipped=True)
    return made.rename(tmp_path / os.fsdecode(b"caf\xe9.zip"))


def test_a_run_on_images_whose_name_is_not_utf8(archive, tmp_path):
    """The config holds it as text, from which the run resumes and its checkpoint finds the images."""
    runs = tmp_path / "runs"
    cli("fit", *SHORT, *OWN, "--data.root", archive, "--runs", runs)
    (run,) = (path.parent for path in runs.rglob("config.yaml"))
    root = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["root"]
    assert root == f"{tmp_path}/caf\\xe9.zip"
    last = run / "checkpoints" / "last.ckpt"
    cli("fit", "-c", run / "config.yaml", "--trainer.max_epochs", 2, "--ckpt_path", last)
    assert torch.load(last, weights_only=True)["epoch"] == 1
    data = checkpoints.load_data(last)
    data.prepare_data()
    data.setup()
    assert len(data.train_images) + len(data.held_out_images) == 60


def test_a_path_as_text(archive):
    """There and back; a file whose name really has a backslash is that file."""
    text = as_text(str(archive))
    assert text.isascii()
    assert from_text(text) == archive
    written = archive.with_name("caf\\xe9.zip")
    written.touch()
    assert from_text(str(written)) == written
    assert from_text("plain/ünïcode") == Path("plain/ünïcode")
