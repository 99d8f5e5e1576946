"""Damage of every kind to pictures, zips and npz files: they are refused in a sentence, or unharmed."""

import struct

import numpy as np
import pytest
import torch

from tests.data.own_images import GOOD, decoded, encoded, flipped, noise, numbered, plain, save, smooth, write
from thermoebm.data import Arrays, ImageDataModule, ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("old", [b"labels.npy", b"PK\1\2"])
def test_a_damaged_directory_does_not_lose_labels(tmp_path, old):
    """The last entry's name is another, or its mark is gone; or the entry before swallows it, as its comment."""
    path = save(tmp_path / "x.npz", images=GOOD, labels=np.arange(6))
    content = path.read_bytes()
    place = content.rindex(old)
    path.write_bytes(flipped(content, place))
    with pytest.raises(ValueError, match=r"x.npz is (damaged|not a zip file)"):
        Arrays(path, batch_size=1).setup()
    second, first = content.rindex(b"PK\1\2"), content.index(b"PK\1\2")
    length = content.index(b"PK\5\6") - second
    path.write_bytes(content[: first + 32] + struct.pack("<H", length) + content[first + 34 :])
    with pytest.raises(ValueError, match=r"x.npz is damaged"):
        Arrays(path, batch_size=1).setup()


def test_a_damaged_name_does_not_hide_a_picture(tmp_path):
    path = write(tmp_path / "x", numbered(["train/1.png", "train/2.png", "test/1.png"]), zipped=True)
    content = path.read_bytes()
    path.write_bytes(flipped(content, content.rindex(b"2.png") + 4))
    with pytest.raises(ValueError, match=r"x.zip is damaged"):
        ImageFolder(path, batch_size=1).setup()


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """Some bytes changed, an end cut off, other content, or none."""
    kind = draw.integers(6)
    if kind == 0:
        return content[: draw.integers(len(content))]
    if kind == 1:
        return bytes(draw.integers(0, 256, draw.integers(200), dtype=np.uint8))
    changed = bytearray(content)
    for place in draw.integers(0, len(content), draw.integers(1, 4)):
        changed[place] ^= 1 << draw.integers(8)
    return bytes(changed)


def outcome(data: ImageDataModule, name: str) -> tuple[torch.Tensor, ...] | None:
    """Both splits' images; None if they are refused in one line that names the file."""
    try:
        return data.train_images, data.held_out_images
    except ValueError as error:
        said = str(error)
    assert name in said
    assert "\n" not in said
    return None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_damaged_picture_is_refused_or_has_its_shape(tmp_path, form, capfd):
    draw = np.random.default_rng(0)
    content = encoded(noise(9, 9), form)
    refused = 0
    for number in range(25):
        root = write(tmp_path / str(number), {"train/a.png": damaged(content, draw), "test/b.png": plain(1, 9)})
        found = outcome(ImageFolder(root, batch_size=1, image_size=9), "a.png")
        refused += found is None
        if found is not None:
            assert found[0].shape == (1, 3, 9, 9)
            assert form != "PNG" or (found[0][0].permute(1, 2, 0).numpy() == decoded(content)).all()
    assert refused >= 5
    said, complained = capfd.readouterr()
    assert complained == ""
    assert all(line.endswith("; no classes") for line in said.splitlines())  # how the folder was read


def test_a_damaged_zip_is_refused_or_unharmed(tmp_path):
    """What is still read is the picture that was written: a zip has checksums."""
    draw = np.random.default_rng(0)
    files = {f"train/{i}.jpg": encoded(smooth(8, 8) + i, "JPEG") for i in range(3)} | {
        "test/a.bmp": encoded(noise(8, 8), "BMP")
    }
    content = write(tmp_path / "x", files, zipped=True).read_bytes()
    written = {decoded(file).tobytes() for file in files.values()}
    for number in range(75):
        root = write(tmp_path, {f"{number}.zip": damaged(content, draw)}) / f"{number}.zip"
        found = outcome(ImageFolder(root, batch_size=1), f"{number}.zip")
        for image in () if found is None else torch.cat(found):
            assert image.permute(1, 2, 0).contiguous().numpy().tobytes() in written


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused_or_unharmed(tmp_path, writer):
    draw = np.random.default_rng(0)
    labels = np.arange(6)
    writer(tmp_path / "x.npz", train=GOOD, test=GOOD[::-1], train_labels=labels, test_labels=labels[::-1])
    content = (tmp_path / "x.npz").read_bytes()
    whole = Arrays(tmp_path / "x.npz", batch_size=1)
    for number in range(60):
        path = write(tmp_path, {f"{number}.npz": damaged(content, draw)}) / f"{number}.npz"
        data = Arrays(path, batch_size=1)
        if outcome(data, f"{number}.npz") is not None:
            for found, split in zip(data.splits, whole.splits, strict=True):
                assert torch.equal(found.images, split.images)
                assert torch.equal(found.labels, split.labels)
