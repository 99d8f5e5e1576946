"""Folders and zips of one's own pictures: where splits are found, and what is left out, which is told in numbers."""

import os

import pytest
import torch

from tests.data.own_images import encoded, noise, numbered, plain, values, write
from thermoebm.data import ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")

SPLIT = ["train/1.png", "train/2.png", "test/1.png"]


def read(root, capsys, **options) -> tuple[list[int], list[int], str]:
    """The numbers of the training pictures, of those held out, and the line that says how they were read."""
    data = ImageFolder(root, batch_size=1, **options)
    found = values(data.train_images), values(data.held_out_images)
    return *found, capsys.readouterr().out.strip()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("around", ["a/", "a/a/", "a/b/c/"])
def test_splits_are_found_below_single_folders(tmp_path, capsys, zipped, around):
    root = write(tmp_path / "x", numbered([around + name for name in SPLIT]), zipped)
    said = f"x: 2 training pictures from {around}train/ and 1 held-out ones from {around}test/; no classes"
    assert read(root, capsys) == ([0, 1], [2], said)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("strays", [["0.png"], ["0.png", "a/9.png"], ["a/a/9.png"]])
def test_pictures_beside_the_splits_do_not_hide_them(tmp_path, capsys, zipped, strays):
    root = write(tmp_path / "x", numbered([*(f"a/a/{name}" for name in SPLIT), *strays]), zipped)
    train, held_out, said = read(root, capsys)
    assert (train, held_out) == ([0, 1], [2])
    assert said.endswith(f"from a/a/test/; no classes; left out: {len(strays)} beside the splits")


def test_half_a_split_below_a_folder_is_refused(tmp_path):
    root = write(tmp_path, numbered(["0.png", "a/train/1.png", "a/dev/2.png"]))
    with pytest.raises(ValueError, match=r"/a has train/ but none of test/"):
        ImageFolder(root, batch_size=1).setup()


def test_classes_are_found_below_single_folders(tmp_path):
    root = write(tmp_path, numbered([f"a/b/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)]))
    for images, labels in ImageFolder(root, batch_size=1).splits:
        assert [int(value >= 4) for value in values(images)] == labels.tolist()


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train2017/1.png", "val2017/2.png"], "train2017/ and val2017/"),
        (["trainA/1.png", "trainB/2.png", "testA/3.png"], "trainA/ and testA/"),
        (["faces_train/1.png", "faces-Test/2.png"], "faces_train/ and faces-Test/"),
        (["cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/test/1.png"], "cat/train/ and cat/test/"),
        (["images/trainingSet/1.png", "masks/1.png", "images/validationSet/2.png"], "images/trainingSet/ and images/v"),
    ],
)
def test_folders_that_may_be_splits_but_are_not_taken_as_such_are_told(tmp_path, capsys, names, named):
    said = read(write(tmp_path, numbered(names)), capsys)[2]
    assert f" by a fixed permutation, not by {named}" in said
    assert "splits are train/ and test/, side by side around all classes" in said


@pytest.mark.parametrize(
    "names",
    [
        ["trains/1.png", "contest/2.png"],  # no such words
        ["train_test/1.png", "more/2.png"],  # both in one name
        ["my train/1.png", "bus/2.png"],  # one of the two
        ["train.png", "test.png"],  # no folders
    ],
)
def test_other_folders_are_not_taken_for_splits(tmp_path, capsys, names):
    assert "not by" not in read(write(tmp_path, numbered(names)), capsys)[2]


SYSTEM = ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", "@Recycle", "#snapshot"]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("folder", [*SYSTEM, "__MACOSX", ".thumbnails", ".ipynb_checkpoints", ".Trash-1000"])
def test_folders_of_systems_are_left_out_and_counted(tmp_path, capsys, zipped, folder):
    """A folder counts once, whatever is in it; it may be anywhere."""
    junk = [f"{folder}/1.png", f"{folder}/2.png/3.png", f"cat/{folder}/4.png"]
    root = write(
        tmp_path / "x", numbered(["cat/1.png", "cat/2.png", "dog/1.png"]) | dict.fromkeys(junk, plain(99)), zipped
    )
    train, held_out, said = read(root, capsys)
    assert sorted(train + held_out) == [0, 1, 2]
    name = "hidden" if folder.startswith(".") else f"{folder}/"
    assert said.endswith(f"; 2 classes; left out: 2 {name}")


def test_folders_of_systems_are_not_opened(tmp_path, capsys, monkeypatch):
    """lost+found is the administrator's."""
    root = write(tmp_path, numbered(["1.png", "2.png", "lost+found/3.png"]))
    scan = os.scandir

    def guarded(path):
        if "lost+found" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert read(root, capsys)[2].endswith("left out: 1 lost+found/")


@pytest.mark.parametrize("zipped", [False, True])
def test_what_has_the_name_of_a_picture_is_read_and_other_files_are_counted(tmp_path, capsys, zipped):
    grey = noise(4, 4)[..., :1].repeat(3, axis=2)
    forms = {"jfif": "JPEG", "jpe": "JPEG", "JPG": "JPEG", "apng": "PNG", "pnm": "PPM", "TIF": "TIFF"}
    files = {f"{i}.{suffix}": encoded(grey, form) for i, (suffix, form) in enumerate(forms.items())}
    others = ["a.HEIC", "b.heic", "c.avif", "readme", "x/notes.txt", ".hidden.png"]
    root = write(tmp_path / "x", files | dict.fromkeys(others, b"other"), zipped)
    data = ImageFolder(root, batch_size=1)
    together = torch.cat([data.train_images, data.held_out_images]).permute(0, 2, 3, 1).numpy()
    assert len(together) == len(forms)
    assert sum((image == grey).all() for image in together) == 3  # the others are JPEGs
    said = capsys.readouterr().out
    for told in ("left out: 2 .heic, ", "1 .avif", "1 without a suffix", "1 .txt", "1 hidden"):
        assert told in said


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    root = write(tmp_path, {"1.HEIC": b"", "2.heic": b"", "@eaDir/1.png": b""})
    with pytest.raises(ValueError, match=r"has no pictures in it .*; what is there: 2 .heic, 1 @eaDir/\.$"):
        ImageFolder(root).setup()


def test_the_line_gives_the_numbers_of_what_is_left_out_and_why(tmp_path, capsys):
    names = [*(f"train/{i}.png" for i in range(6)), *(f"test/{i}.png" for i in range(3)), "val/1.png", "val/2.png"]
    root = write(tmp_path / "x", numbered(names) | {"train/0a.png": b"", "a.txt": b""})
    said = read(root, capsys, num_train=2, num_val=2, skip_unreadable=True)[2]
    assert said.splitlines()[-1] == (
        "x: 2 training pictures from train/ and 2 held-out ones from test/; no classes; "
        "left out: 4 beyond num_train, 2 in val/, 1 .txt, 1 beyond num_val, 1 unreadable"
    )
