"""Arrays of one's own: every layout, labels, and a sentence for each fault that names file and key."""

import re

import numpy as np
import pytest
import torch

from tests.data.own_images import GOOD, drawn, resized_by_torch, save, values
from tests.data.raw_images import repacked
from thermoebm.data import Arrays

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((6, 8, 9), None), ((6, 8, 9, 1), (0, 3, 1, 2)), ((6, 8, 9, 3), (0, 3, 1, 2)), ((6, 3, 8, 9), (0, 1, 2, 3))],
)
@pytest.mark.parametrize("held_out", ["test", "val"])
def test_arrays_of_every_layout(tmp_path, shape, axes, held_out):
    """The first images of each, with their labels, whatever else is in the file."""
    train, test, truth = drawn(*shape), drawn(4, *shape[1:]), drawn(4, high=9)
    labels = np.arange(6, dtype=np.int16)
    extra = {"indices": np.arange(3), "mean": np.ones(3)}
    path = tmp_path / "x.npz"
    save(path, train=train, train_labels=labels, **{held_out: test, f"{held_out}_labels": truth}, **extra)
    (images, found), (held, found_truth) = Arrays(path, batch_size=1, num_train=5).splits
    for array, tensor in ((train[:5], images), (test, held)):
        assert (tensor.numpy() == (array[:, None] if axes is None else array.transpose(axes))).all()
    assert (found.tolist(), found_truth.tolist()) == (list(range(5)), truth.tolist())
    assert found.dtype == torch.int64


@pytest.mark.parametrize("key", ["images", "x", "arr_0", "faces"])
def test_one_array_is_divided_with_its_labels(tmp_path, key):
    images = np.arange(50, dtype=np.uint8).reshape(-1, 1, 1).repeat(4, axis=1).repeat(4, axis=2)
    path = save(tmp_path / "x.npz", **{key: images, "labels": np.arange(50)[::-1]})
    data, other = Arrays(path, batch_size=1), Arrays(path, batch_size=1, seed=1)
    (train, labels), (held_out, truth) = data.splits
    assert sorted(values(train) + values(held_out)) == list(range(50))
    assert len(held_out) == 5
    assert (49 - labels).tolist() == values(train)
    assert (49 - truth).tolist() == values(held_out)
    assert torch.equal(other.read()[1].images, held_out)  # the cache would not ask the seed


@pytest.mark.parametrize("key", ["train", "images", "faces"])
def test_labels_may_be_named_after_a_single_array(tmp_path, key, capsys):
    """What is named after no array that is read is said not to be read."""
    images = np.arange(20, dtype=np.uint8).repeat(16).reshape(-1, 4, 4)
    arrays = {key: images, f"{key}_labels": np.arange(20)[::-1], "other_labels": np.zeros(20, int)}
    for train, labels in Arrays(save(tmp_path / "x.npz", **arrays), batch_size=1).splits:
        assert (19 - labels).tolist() == values(train)
    assert capsys.readouterr().out == "x: arrays not read: other_labels\n"


def test_array_packed_by_another_method_is_not_called_damaged(tmp_path):
    path = repacked(save(tmp_path / "x.npz", images=GOOD, names=GOOD), "names.npy", 9)
    assert len(Arrays(path, batch_size=1).train_images) == 5
    said = f"images in {path} is packed by Deflate64, which cannot be read here; unpack the zip or pack it anew."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Arrays(repacked(path, "images.npy", 9), batch_size=1).setup()


def test_arrays_are_resized(tmp_path):
    array = drawn(3, 20, 12, 3)
    data = Arrays(save(tmp_path / "x.npz", train=array, test=array), batch_size=1, image_size=8)
    for image, expected in zip(data.train_images, array, strict=True):
        assert (image - resized_by_torch(expected, 8, 8)).abs().max() <= 1


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": GOOD / 255, "test": GOOD}, "train in .*x.npz holds float64 values; save uint8, 0 to 255"),
        ({"train": GOOD, "test": GOOD.astype(np.int64)}, "test in .*x.npz holds int64 values; save uint8"),
        ({"train": GOOD.astype(object), "test": GOOD}, "train in .*x.npz holds Python objects; save uint8"),
        ({"train": GOOD.reshape(6, -1), "test": GOOD}, r"train in .*x.npz has the shape \(6, 192\); save"),
        ({"train": GOOD[..., :2], "test": GOOD}, r"train in .*x.npz has the shape \(6, 8, 8, 2\); save"),
        ({"train": GOOD[:, :3], "test": GOOD}, r"has the shape \(6, 3, 8, 3\), in which either axis"),
        ({"train": GOOD[:0], "test": GOOD}, r"has the shape \(0, 8, 8, 3\) and no pixels"),
        ({"train": GOOD, "test": GOOD[..., :1]}, "train are 3 x 8 x 8 and of test 1 x 8 x 8"),
        ({"train": GOOD, "test": GOOD, "train_labels": np.arange(6)}, "labels for one of train and test only"),
        ({"images": GOOD, "labels": np.arange(5)}, r"labels in .*x.npz has the shape \(5,\); images has 6 images"),
        ({"images": GOOD, "labels": np.arange(6.0)}, "labels in .*x.npz holds float64 values; save integers"),
        ({"images": GOOD, "labels": np.arange(6) - 1}, "labels in .*x.npz goes from -1 to 4"),
        ({"images": GOOD, "labels": np.array(list("abcdef"))}, "labels in .*x.npz holds <U1 values"),
        (
            {"images": GOOD, "labels": np.arange(6), "images_labels": np.arange(6)},
            "x.npz has labels in images_labels and in labels; save one of them",
        ),
        ({"a": GOOD, "b": GOOD}, "x.npz has the arrays a, b; save images as train and test"),
        ({"labels": np.arange(6)}, "x.npz has the arrays labels; save"),
        ({"images": GOOD[:1]}, "1 images are to be held out of the 1"),
    ],
)
def test_arrays_that_are_no_images_are_told_in_a_sentence(tmp_path, arrays, said):
    with pytest.raises(ValueError, match=said) as caught:
        Arrays(save(tmp_path / "x.npz", **arrays), batch_size=1).setup()
    assert "\n" not in str(caught.value)


def test_files_that_are_no_npz_are_told_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        Arrays(tmp_path).setup()
    np.save(tmp_path / "x.npy", GOOD)
    with pytest.raises(ValueError, match=r"x.npy is not a zip file"):
        Arrays(tmp_path / "x.npy").setup()
    content = save(tmp_path / "x.npz", train=GOOD, test=GOOD).read_bytes()
    for broken in (content[:-30], b"", content[: len(content) // 2]):
        (tmp_path / "x.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"x.npz is not a zip file, or damaged"):
            Arrays(tmp_path / "x.npz").setup()


def test_header_that_promises_less_than_there_is_does_not_pass(tmp_path):
    """A damaged shape would end the reading before the checksum, in a file larger than what is read ahead."""
    np.savez(tmp_path / "x.npz", images=drawn(6, 64, 64, 3))
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count(b"(6, 64, 64, 3)") == 1
    (tmp_path / "x.npz").write_bytes(content.replace(b"(6, 64, 64, 3)", b"(3, 64, 64, 3)"))
    with pytest.raises(ValueError, match=r"images in .*x.npz is damaged"):
        Arrays(tmp_path / "x.npz").setup()


@pytest.mark.parametrize(
    ("name", "title"),
    [("CIFAR10.npz", "cifar10"), ("My faces (64).npz", "my-faces-64"), ("a_b-c.npz", "a_b-c"), ("é.npz", "arrays")],
)
def test_title_is_a_name(name, title):
    assert Arrays(name).title == title
