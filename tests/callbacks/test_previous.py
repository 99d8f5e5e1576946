"""previous.ckpt, the checkpoint of the epoch before the last."""

import os
from pathlib import Path

import pytest
import torch

from thermoebm.callbacks import LastCheckpoint
from thermoebm.runtime import files


class Trainer:
    is_global_zero = True


@pytest.fixture
def keep(tmp_path):
    """Saves a checkpoint with a number, which then gets its name."""

    def keep(number):
        keeper = LastCheckpoint()
        torch.save(number, keeper.later(tmp_path / "last.ckpt"))
        keeper.on_train_end(Trainer(), None)

    return keep


def there(folder):
    return {path.name: torch.load(path, weights_only=True) for path in folder.iterdir()}


def test_two_checkpoints_are_kept(tmp_path, keep):
    keep(1)
    assert there(tmp_path) == {"last.ckpt": 1}
    for number in (2, 3):
        keep(number)
        assert there(tmp_path) == {"last.ckpt": number, "previous.ckpt": number - 1}


@pytest.fixture
def no_links(monkeypatch):
    """A file system without hard links."""

    def refused(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)


@pytest.mark.parametrize("renamed", [0, 1])
@pytest.mark.parametrize("links", [True, False])
def test_a_kill_at_any_rename_leaves_a_last_one_and_the_next_epoch_both(
    tmp_path, keep, monkeypatch, request, links, renamed
):
    """Before the first of the two renames, and between them."""
    if not links:
        request.getfixturevalue("no_links")
    keep(1)
    keep(2)
    rename, done = os.replace, []

    def killed(*names):
        if len(done) == renamed:
            raise KeyboardInterrupt
        rename(*names)
        done.append(names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            keep(3)
    left = there(tmp_path)
    assert left.pop("last.ckpt.new") == 3
    assert left == {"last.ckpt": 2, "previous.ckpt": 1 + renamed}
    keep(3)
    assert there(tmp_path) == {"last.ckpt": 3, "previous.ckpt": 2}


def test_a_damaged_one_does_not_take_the_place_of_a_whole_one(tmp_path, keep):
    keep(1)
    keep(2)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    keep(3)
    assert there(tmp_path) == {"last.ckpt": 3, "previous.ckpt": 1}


def test_where_it_cannot_be_kept_the_new_one_still_gets_its_name(tmp_path, keep, monkeypatch, no_links):
    """As on a full disk."""

    def full(*_):
        raise OSError(28, "No space left")

    monkeypatch.setattr(files.shutil, "copyfile", full)
    keep(1)
    keep(2)
    assert there(tmp_path) == {"last.ckpt": 2}


def test_both_are_names_of_one_file_only_until_the_next(tmp_path, keep):
    """A run that was ended between the two renames has one file under both names; nothing is left beside them."""
    keep(1)
    (tmp_path / "previous.ckpt").hardlink_to(tmp_path / "last.ckpt")
    keep(2)
    assert there(tmp_path) == {"last.ckpt": 2, "previous.ckpt": 1}
