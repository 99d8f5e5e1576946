"""Run directories are never shared."""

import subprocess
import sys

import numpy as np
import torch

from tests import ROOT
from thermoebm.runs import directories


def test_processes_that_claim_at_once_get_distinct_directories(tmp_path):
    """Eight processes, five claims each: 0 to 39, each once."""
    code = f"""
import os, sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from thermoebm.runs import directories
gate, opened = os.pipe()
for i in range(8):
    if os.fork() == 0:
        os.close(opened)
        os.read(gate, 1)  # until the parent closes its end: all start together
        claimed = [directories.claim(Path(sys.argv[1]) / "a" / "b").name for _ in range(5)]
        os.write(1, (" ".join(claimed) + chr(10)).encode())
        os._exit(0)
os.close(opened)
for i in range(8):
    assert os.wait()[1] == 0
"""
    command = [sys.executable, "-W", "ignore", "-c", code, tmp_path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(map(int, printed.split())) == list(range(40))
    assert sorted(int(p.name) for p in (tmp_path / "a" / "b").iterdir()) == list(range(40))


def test_claim_fills_the_first_gap_and_steps_over_files(tmp_path):
    for name in ("0", "2"):
        (tmp_path / name).mkdir()
    (tmp_path / "1").write_text("")
    assert [directories.claim(tmp_path).name for _ in range(2)] == ["3", "4"]


def test_only_the_last_checkpoint_of_a_run_belongs_to_it(tmp_path):
    """Another checkpoint of it, or a last.ckpt outside a run, starts a run of its own."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert directories.run_of(str(last)) is None  # no config.yaml: not a run
    (tmp_path / "run" / "config.yaml").write_text("")
    assert directories.run_of(str(last)) == tmp_path / "run"
    assert directories.run_of(str(last.with_name("epoch=1-step=40.ckpt"))) is None
    assert directories.home_of(str(last.with_name("best.ckpt"))) == tmp_path / "run"
    assert directories.home_of(str(tmp_path / "run" / "best.ckpt")) is directories.home_of(None) is None
    assert directories.run_of(str(tmp_path / "run" / "last.ckpt")) is None
    assert directories.run_of(None) is None


def test_samples_are_written_as_they_are(tmp_path):
    samples = torch.rand(3, 1, 8, 8) * 2 - 1
    directories.write_samples(samples, torch.zeros(3, 4, 5), tmp_path)
    assert np.array_equal(np.load(tmp_path / "samples.npy"), samples.numpy())
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_contents_are_the_subject_of_a_sentence_with_its_verb(tmp_path):
    """What is there, in the order of a look at it; an empty folder is nothing."""
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "samples").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert directories.contents(tmp_path) == "only the config"
    (tmp_path / "metrics.csv").write_text("")
    assert directories.contents(tmp_path) == "metrics.csv"
    (tmp_path / "checkpoints" / "last.ckpt").write_text("")
    assert directories.contents(tmp_path) == "metrics.csv and checkpoints"
    (tmp_path / "samples" / "epoch-0001.png").write_text("")
    assert directories.contents(tmp_path) == "samples, metrics.csv and checkpoints"
    (tmp_path / "metrics.csv").unlink()
    assert directories.contents(tmp_path) == "samples and checkpoints"
