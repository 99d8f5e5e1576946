"""Folders and zips of one's own pictures: which are held out, and their labels."""

import numpy as np
import pytest
import torch

from tests.data.own_images import numbered, plain, save, values, write
from thermoebm.data import Arrays, Digits, ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("fit", "name"),
    [
        *(("train", name) for name in ("test", "testing", "val", "valid", "validation", "eval", "held_out")),
        ("Training", "Validation"),
        ("TRAIN", "Test"),
    ],
)
@pytest.mark.parametrize("around", ["", "faces/"])
def test_train_and_its_counterpart_are_the_splits(tmp_path, zipped, fit, name, around):
    """In the order of names, at any depth, whatever order they come in; what is in neither is not looked at."""
    order = [f"{fit}/b.png", f"{fit}/c.PNG", f"{fit}/d.jpg", f"{name}/a.png", f"{name}/z.png"]
    files = {around + path: content for path, content in numbered(order).items()}
    root = write(tmp_path / "x", dict(reversed(files.items())) | {around + "other/1.png": plain(99)}, zipped)
    data = ImageFolder(root, batch_size=1)
    assert values(data.train_images) == [0, 1, 2]
    assert values(data.held_out_images) == [3, 4]
    assert data.splits[0].labels is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["train/1.png", "train/2.png", "val/1.png", "test/1.png", "more/1.png"],
            "x: 2 training pictures from train/ and 1 held-out ones from test/; no classes; "
            "left out: 1 in more/, 1 in val/",
        ),
        (
            ["Training/a/1.png", "Training/b/2.png", "VAL/b/1.png"],
            "x: 2 training pictures from Training/ and 1 held-out ones from VAL/; 2 classes",
        ),
        (
            ["train/a/1.png", "train/b/2.png", "test/b/1.png", "test/c/1.png"],
            "x: 2 training pictures from train/ and 2 held-out ones from test/; "
            "no classes, for there is nothing to train on of c/",
        ),
        (
            ["train/a/1.png", "train/b/2.png", *(f"test/{i}\udcff\n/1.png" for i in range(6))],
            "x: 2 training pictures from train/ and 6 held-out ones from test/; no classes, for there is nothing to "
            "train on of 0??/, 1??/, 2??/, 3??/, 4??/, ...".replace("?", "\N{REPLACEMENT CHARACTER}"),
        ),
        (["a/1.png", "b/2.png"], "x: 1 training pictures and 1 held-out ones by a fixed permutation; 2 classes"),
        (["1.png", "2.png"], "x: 1 training pictures and 1 held-out ones by a fixed permutation; no classes"),
    ],
)
def test_a_line_says_once_how_the_folder_was_read(tmp_path, capsys, names, said):
    root = write(tmp_path / "x", numbered(names))
    for expected in (f"{said}\n", ""):
        ImageFolder(root, batch_size=1).setup()
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/1.png", "dev/2.png"], r"has train/ but none of test/, .*held_out/; name its counterpart so"),
        (["Test/1.png", "fit/2.png", "val/3.png"], r"has Test/ but none of train/, training/;"),
    ],
)
def test_half_a_split_is_refused_rather_than_divided_with_the_rest(tmp_path, names, said):
    with pytest.raises(ValueError, match=said):
        ImageFolder(write(tmp_path, numbered(names)), batch_size=1).setup()


def test_unsplit_pictures_are_divided_once_for_all_seeds(tmp_path):
    """A tenth is held out, not the last names; folder and zip divide alike; together they are all there is."""
    files = numbered([f"{i // 20}/{i:03}.png" for i in range(60)])
    folder, zipped = (write(tmp_path / "faces", files, zipped) for zipped in (False, True))
    first = ImageFolder(folder, batch_size=1, seed=0)
    train, held_out = values(first.train_images), values(first.held_out_images)
    assert len(held_out) == 6
    assert sorted(train + held_out) == list(range(60))
    assert max(held_out) - min(held_out) > 20
    for root, seed in ((folder, 1), (zipped, 0)):
        splits = ImageFolder(root, batch_size=1, seed=seed).read()  # the cache would not ask the seed
        assert tuple(values(split.images) for split in splits) == (train, held_out)
    fewer = ImageFolder(folder, batch_size=1, num_val=2, num_train=5)
    assert values(fewer.held_out_images) == held_out[:2]
    assert len(fewer.train_images) == 5
    assert not set(values(fewer.train_images)) & set(held_out[:2])


def test_only_as_many_as_are_asked_for_are_decoded(tmp_path):
    root = write(
        tmp_path, numbered(["train/a.png", "train/b.png", "test/a.png"]) | {"train/c.png": b"", "test/b.png": b""}
    )
    data = ImageFolder(root, batch_size=1, num_train=2, num_val=1)
    assert values(torch.cat([data.train_images, data.held_out_images])) == [0, 1, 2]


def test_labels_are_the_class_folders_by_name(tmp_path):
    names = ["train/dog/1.png", "train/cat/2.png", "train/cat/x/3.png", "test/dog/4.png"]
    data = ImageFolder(write(tmp_path / "split", numbered(names)), batch_size=1)
    (train, labels), (held_out, truth) = data.splits
    assert dict(zip(values(train), labels.tolist(), strict=True)) == {0: 1, 1: 0, 2: 0}
    assert (values(held_out), truth.tolist()) == ([3], [1])
    names = [f"{kind}/{i}.png" for i in range(10) for kind in ("b", "a", "c")]
    (train, labels), (held_out, truth) = ImageFolder(write(tmp_path / "whole", numbered(names)), batch_size=1).splits
    kinds = torch.tensor([1, 0, 2])
    assert torch.equal(labels, kinds[torch.tensor(values(train)) % 3])
    assert torch.equal(truth, kinds[torch.tensor(values(held_out)) % 3])


def test_a_few_images_of_class_folders_are_of_all_classes(tmp_path):
    """Twenty of eighty in two equal folders: 3 to 17 of the first, but for one in 10,000 (hypergeometric)."""
    names = [f"train/{kind}/{i:02}.png" for kind in ("cat", "dog") for i in range(40)]
    root = write(tmp_path / "many", numbered([*names, "test/cat/a.png", "test/dog/b.png"]))
    images, labels = ImageFolder(root, num_train=20, num_val=2, batch_size=1).splits[0]
    assert len(set(values(images))) == 20
    assert labels.tolist() == [int(i >= 40) for i in values(images)]
    assert 3 <= labels.sum() <= 17


@pytest.mark.parametrize(
    "names",
    [
        ["train/a/1.png", "train/b/1.png", "test/1.png"],  # held-out pictures in no class
        ["train/a/1.png", "train/b/1.png", "test/c/1.png"],  # or in one that none is trained on
        ["train/a/1.png", "train/a/2.png", "test/a/1.png"],  # one class is none
        ["1.png", "a/2.png", "b/3.png"],
    ],
)
def test_there_are_no_labels_unless_all_pictures_have_one(tmp_path, names):
    data = ImageFolder(write(tmp_path, numbered(names)), batch_size=1)
    assert [split.labels for split in data.splits] == [None, None]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("num_val", [None, 2, 17])
def test_whole_never_trains_on_what_a_run_holds_out(tmp_path, zipped, num_val):
    """A classifier learns from the whole: of unsplit images, all not held out; of split ones, all of a half."""
    names = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(20)]
    grey = np.arange(40, dtype=np.uint8).repeat(16).reshape(-1, 4, 4)
    unsplit = write(tmp_path / "unsplit", numbered(names), zipped)
    for make, root in ((ImageFolder, unsplit), (Arrays, save(tmp_path / "unsplit.npz", images=grey))):
        data = make(root, num_train=3, num_val=num_val, batch_size=1)
        train, held_out = (values(split.images) for split in data.whole().splits)
        assert set(values(data.held_out_images)) == set(held_out)
        assert sorted(train + held_out) == list(range(40))
    split = write(
        tmp_path / "split", numbered([f"{half}/{name}" for half in ("train", "test") for name in names]), zipped
    )
    for make, root in ((ImageFolder, split), (Arrays, save(tmp_path / "split.npz", train=grey, test=grey + 40))):
        data = make(root, num_train=3, num_val=num_val, batch_size=1)
        assert [sorted(values(half.images)) for half in data.whole().splits] == [[*range(40)], [*range(40, 80)]]


def test_whole_digits_never_train_on_what_a_run_holds_out():
    data = Digits(num_train=100, num_val=600)
    train, held_out = data.whole().splits
    assert torch.equal(held_out.images, data.held_out_images)
    assert len(train.images) == 1797 - 600
    assert not {*map(bytes, train.images.numpy())} & {*map(bytes, data.held_out_images.numpy())}
