"""MNIST, CIFAR-10, SVHN and CelebA: what is in the original files is what is read, by the real code."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image

import thermoebm.data
from tests.data import originals
from thermoebm.data import MNIST, CelebA
from thermoebm.runtime import cache


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=originals.WRITERS)
def written(request, monkeypatch, tmp_path):
    """A function that makes the data set, and what it must read."""
    truth = originals.WRITERS[request.param](tmp_path / "data", monkeypatch)

    def make(**options):
        make_set = getattr(thermoebm.data, request.param)
        return make_set(**{"root": tmp_path / "data", "download": False, "batch_size": 2} | options)

    return make, truth


def test_images_and_labels_are_those_of_the_files(written):
    """All of them, in order, by channel, row and column; the same again from the cache."""
    make, truth = written
    for _ in range(2):
        for (images, labels), (true_images, true_labels) in zip(make().splits, truth, strict=True):
            assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
            assert np.array_equal(images.numpy(), true_images)
            assert labels.tolist() == true_labels.tolist()


def test_numbers_take_the_first_images(written):
    make, truth = written
    data = make(num_train=7, num_val=3)
    for (images, labels), (true_images, true_labels), count in zip(data.splits, truth, (7, 3), strict=True):
        assert np.array_equal(images.numpy(), true_images[:count])
        assert labels.tolist() == true_labels[:count].tolist()
    with pytest.raises(ValueError, match=f"{len(truth[0][0])} training images, of which 100 are needed"):
        make(num_train=100).setup()


def test_whole_is_all_images_and_leaves_the_original_as_it_was(written):
    make, truth = written
    data = make(num_train=7, num_val=3)
    before = data.train_images
    whole = data.whole()
    assert [len(split.images) for split in whole.splits] == [len(images) for images, _ in truth]
    assert (data.num_train, data.num_val) == (7, 3)
    assert data.train_images is before


def test_held_out_batches_are_the_pixels_between_minus_one_and_one(written):
    """x = 2 (pixel/255) - 1, in the files' order, the last partial batch included."""
    make, (_, (images, _)) = written
    batch = torch.cat(list(make().val_dataloader()))
    assert batch.dtype == torch.float32
    assert np.abs(batch.numpy() - (2 * (images.astype(np.float64) / 255) - 1)).max() < 1e-6


@pytest.mark.parametrize("size", [16, 64])
def test_other_sizes_are_pil_s_bilinear_ones(written, size):
    """PIL resizes the same pixels independently, in fixed point: one level apart at most."""
    make, ((images, _), _) = written
    resized = make(image_size=size).train_images.numpy().astype(int)
    assert resized.shape[2:] == (size, size)
    for mine, planes in zip(resized, images, strict=True):
        for plane, original in zip(mine, planes, strict=True):
            expected = Image.fromarray(original).resize((size, size), Image.Resampling.BILINEAR)
            assert np.abs(plane - np.asarray(expected, int)).max() <= 1


def test_decoded_images_are_kept_once_for_each_choice_and_nothing_else_with_them(written, monkeypatch):
    """The kept file has the size of what was asked for, and spares reading; a changed file is read anew."""
    make, (_, (images, _)) = written
    data = make(num_train=2, num_val=1)
    values = data.train_images.numel() + data.held_out_images.numel()
    (kept,) = (cache.folder() / "images").iterdir()
    assert values < kept.stat().st_size < values + 4000

    def read(self):
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(type(data), "read", read)
        assert np.array_equal(make(num_train=2, num_val=1).held_out_images.numpy(), images[:1])
        for other in (
            {"num_train": 3, "num_val": 1},
            {"num_train": 2},
            {"num_train": 2, "num_val": 1, "image_size": 8},
        ):
            with pytest.raises(AssertionError, match="read again"):
                make(**other).setup()
        for path in [*data.root.rglob("*-ubyte"), *data.root.rglob("*batch*"), *data.root.rglob("*.mat")]:
            if path.is_file():
                os.utime(path, (1, 1))
        with pytest.raises(AssertionError, match="read again"):
            make(num_train=2, num_val=1).setup()


def test_real_mnist_is_complete(real_data):
    """60,000 and 10,000, against the bytes read by their own description, and the published counts of each digit."""
    raw = real_data / "MNIST" / "raw"
    if not raw.is_dir():
        pytest.skip(f"there is no {raw}")
    splits = MNIST(real_data, download=False).splits
    published = {  # of 0, 1, ..., 9
        "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        "t10k": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }
    for (prefix, counts), (images, labels) in zip(published.items(), splits, strict=True):
        content = (raw / f"{prefix}-images-idx3-ubyte").read_bytes()
        magic, *shape = struct.unpack(">4I", content[:16])
        assert (magic, shape) == (2051, [sum(counts), 28, 28])
        assert images.numpy().tobytes() == content[16:]
        assert images.shape == (sum(counts), 1, 28, 28)
        assert labels.bincount().tolist() == counts
        assert bytes(labels.tolist()) == (raw / f"{prefix}-labels-idx1-ubyte").read_bytes()[8:]


# CelebA


@pytest.mark.parametrize("inner", ["celeba", ""])
@pytest.mark.parametrize("zipped", [False, True])
def test_celeba_takes_the_official_partitions_in_order(tmp_path, inner, zipped):
    """1, 3, 5, 8 to train on and 4, 6 held out, by each face's flat colour; from folder and archive, both places."""
    originals.write_celeba(tmp_path / inner, zipped)
    train, held_out = CelebA(tmp_path, batch_size=1, download=False).splits
    numbers = [[round(image[0].float().mean().item() / 23) for image in split.images] for split in (train, held_out)]
    assert numbers == [[1, 3, 5, 8], [4, 6]]
    assert train.labels is held_out.labels is None
    few = CelebA(tmp_path, batch_size=1, download=False, num_train=2, num_val=1)
    assert torch.equal(few.train_images, train.images[:2])
    assert torch.equal(few.held_out_images, held_out.images[:1])


@pytest.mark.parametrize(("crop", "size"), [("whole", 64), ("center", 64), ("whole", 32), ("center", 40)])
def test_celeba_crops_are_where_they_should_be(tmp_path, crop, size):
    """Where the bands of a face lie: pixel (r, c) shows the colour at its centre traced back to the file's 218x178.

    Whole: rows by 218/S, columns by 178/S. Center: shorter side to S, longer to ⌊218 S/178⌋, its middle S.
    Pixels within 1.5 of an edge mix two bands; the others are flat but for JPEG, which is good to three levels.
    """
    originals.write_celeba(tmp_path)
    (image, *_) = CelebA(tmp_path, image_size=size, crop=crop, batch_size=1, download=False).train_images
    height = size if crop == "whole" else int(218 * size / 178)
    rows = (np.arange(size) + (height - size) // 2 + 0.5) * 218 / height
    columns = (np.arange(size) + 0.5) * 178 / size
    near = [np.abs(rows[:, None] - [72, 144]).min(1) < 1.5 * 218 / height]
    near.append(np.abs(columns[:, None] - [64, 112]).min(1) < 1.5 * 178 / size)
    expected = originals.face(1)[rows.astype(int)][:, columns.astype(int)].transpose(2, 0, 1).astype(int)
    flat = ~near[0][:, None] & ~near[1]
    assert flat.mean() > 0.5
    assert np.abs(image.numpy().astype(int) - expected)[:, flat].max() <= 3


def pil_crop(picture: Image.Image, crop: str) -> np.ndarray:
    """64x64 by PIL alone: the whole, or rows 7 to 70 of the 78 that 218 become."""
    if crop == "whole":
        return np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))
    return np.asarray(picture.resize((64, 78), Image.Resampling.BILINEAR).crop((0, 7, 64, 71)))


@pytest.mark.parametrize("crop", ["whole", "center"])
def test_celeba_pixels_are_pil_s_bilinear_ones(tmp_path, crop):
    """Of a picture of noise, on which each other way of resizing shows."""
    originals.write_celeba(tmp_path)
    path = tmp_path / "img_align_celeba" / "000001.jpg"
    path.write_bytes(originals.jpeg(np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)))
    (image, *_) = CelebA(tmp_path, crop=crop, batch_size=1, download=False).train_images
    assert np.array_equal(image.numpy().transpose(1, 2, 0), pil_crop(Image.open(path), crop))


def test_celeba_crop_is_part_of_what_is_kept(tmp_path):
    originals.write_celeba(tmp_path)
    whole, center = (CelebA(tmp_path, crop=crop, batch_size=1, download=False) for crop in ("whole", "center"))
    assert not torch.equal(whole.train_images, center.train_images)


def test_celeba_archive_comes_first_and_gives_what_the_folder_gives(tmp_path):
    originals.write_celeba(tmp_path)
    folder = CelebA(tmp_path, batch_size=1, download=False).train_images
    (tmp_path / "img_align_celeba").rename(tmp_path / "elsewhere")
    originals.write_celeba(tmp_path, zipped=True)
    (tmp_path / "img_align_celeba").mkdir()
    assert torch.equal(CelebA(tmp_path, batch_size=1, download=False).train_images, folder)


@pytest.mark.parametrize("crop", ["whole", "center"])
def test_real_celeba_is_the_official_files(real_data, crop):
    """400 files by their own partition lines, and every pixel by PIL alone."""
    root = real_data / "celeba_raw"
    if not root.is_dir():
        pytest.skip(f"there is no {root}")
    rows = [line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()]
    data = CelebA(root, crop=crop, download=False)
    for part, (images, _) in zip("02", data.splits, strict=True):
        names = [name for name, of in rows if of == part]
        assert images.shape == (len(names), 3, 64, 64)
        for name, image in zip(names, images, strict=True):
            picture = Image.open(root / "img_align_celeba" / name)
            assert np.array_equal(image.numpy().transpose(1, 2, 0), pil_crop(picture, crop))
