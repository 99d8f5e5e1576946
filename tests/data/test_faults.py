"""Data sets that are damaged or others: one sentence that names the file, and never garbage."""

import io
import pickle
import random
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import thermoebm.data
from tests.data import originals
from tests.data.originals import said
from thermoebm.data import CIFAR10, MNIST, CelebA, ImageDataModule, Split


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "cache"))


def attempt(data: ImageDataModule) -> tuple[Split, Split] | str:
    """The data set, or what it says of not being readable."""
    try:
        return data.splits
    except ValueError as error:
        return str(error)


def test_a_pickle_of_unknown_checksum_is_never_opened(tmp_path, monkeypatch):
    """One that would write a file if it were."""
    originals.write_cifar10(tmp_path, monkeypatch)
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trapped",))

    batch.write_bytes(pickle.dumps(Trap()))
    assert f"{batch} is not CIFAR-10's test_batch: it is damaged or another file" in said(CIFAR10(tmp_path))
    assert not (tmp_path / "trapped").exists()


def test_mnist_is_not_taken_from_what_old_torchvisions_left(tmp_path, monkeypatch):
    """MNIST/processed has no checksums; torchvision's own class prefers it."""
    truth = originals.write_mnist(tmp_path, monkeypatch)
    (tmp_path / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(9, 28, 28, dtype=torch.uint8), torch.zeros(9)), tmp_path / "MNIST" / "processed" / name)
    assert np.array_equal(MNIST(tmp_path, batch_size=1).train_images.numpy(), truth[0][0])


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("000001.jpg 0\n000002.jpg 3\n", "line 2, '000002.jpg 3', is no image's name and 0, 1 or 2"),
        ("000001.jpg 0\n000002", "line 2, '000002', is no image's name"),
        ("000001.jpg 0\n../02.jpg 1\n", "line 2, '../02.jpg 1', is no image's name"),
        ("000001.jpg 0\n000001.jpg 1\n", "line 2, '000001.jpg 1', names an image again"),
        ("000001.jpg 0\n000004.jpg 2\n", "lists all but 6 of the images that are there .not 000002.jpg."),
        ("\u00e9", "it is no text"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_partition_that_cannot_be_right_is_told(tmp_path, content, wrong, zipped):
    originals.write_celeba(tmp_path, zipped)
    (tmp_path / "list_eval_partition.txt").write_text(content)
    assert re.search(rf"{tmp_path}/list_eval_partition.txt .*{wrong}", said(CelebA(tmp_path, batch_size=1)))


def test_a_partition_of_the_official_length_must_be_the_official_one(tmp_path):
    """202,599 lines of which one is another are the whole set's, and its checksum is published."""
    originals.write_celeba(tmp_path)
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{i:06}.jpg 0\n" for i in range(1, 202600)))
    text = said(CelebA(tmp_path))
    assert f"{tmp_path}/list_eval_partition.txt is not CelebA's" in text
    assert "d32c9cbf5e040fd4025c592c306e6668" in text


def test_faces_of_another_size_are_told(tmp_path):
    """The photographs that are not aligned have the same names."""
    originals.write_celeba(tmp_path)
    path = tmp_path / "img_align_celeba" / "000005.jpg"
    path.write_bytes(originals.jpeg(np.zeros((300, 200, 3), np.uint8)))
    assert f"{path} is 200x300, not 178x218" in said(CelebA(tmp_path, batch_size=1))


def damaged(content: bytes, kind: str, rng: random.Random) -> bytes:
    """The content with one kind of damage."""
    if kind == "flip":
        where = rng.randrange(len(content))
        return content[:where] + bytes([content[where] ^ 1 << rng.randrange(8)]) + content[where + 1 :]
    if kind == "cut":
        return content[: rng.randrange(1, len(content))]
    if kind == "foreign":
        return rng.choice([rng.randbytes(len(content)), b"<html>404</html>\n", originals.jpeg(originals.face(9))[:500]])
    return b""


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN"])
def test_damage_of_any_kind_is_noticed_where_checksums_are_published(name, tmp_path, monkeypatch):
    """Forty files: a flipped bit anywhere, cut anywhere, another file, none of its bytes, or two exchanged."""
    originals.WRITERS[name](tmp_path / "intact", monkeypatch)
    rng = random.Random(name)
    for case in range(40):
        root = tmp_path / str(case)
        shutil.copytree(tmp_path / "intact", root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path, other = rng.sample(files, 2)
        kind = ("flip", "cut", "foreign", "empty", "swap")[case % 5]
        if kind == "swap":
            mine, others = path.read_bytes(), other.read_bytes()
            path.write_bytes(others)
            other.write_bytes(mine)
        else:
            path.write_bytes(damaged(path.read_bytes(), kind, rng))
        text = said(getattr(thermoebm.data, name)(root, batch_size=1, download=False))
        told = (path, other) if kind == "swap" else (path,)
        assert any(f"{file} is not " in text for file in told), (case, kind, text)


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_faces_are_noticed_as_far_as_they_can_be(zipped, tmp_path):
    """Forty files, pictures, archives and partitions: a sentence that names a file, or true images.

    The archive's checksums leave no other outcome. Of a loose JPEG a flipped bit may decode to another picture: only
    its shape is sure. A flipped bit of a short partition may move an image to another split.
    """
    originals.write_celeba(tmp_path / "intact", zipped)
    intact = torch.cat([split.images for split in CelebA(tmp_path / "intact", batch_size=1).splits])
    true_images = {bytes(image.numpy()) for image in intact}
    first = 2 if zipped else 5
    rng = random.Random(first)
    outcomes = []
    for case in range(40):
        root = tmp_path / str(case)
        shutil.copytree(tmp_path / "intact", root)
        files = [root / "list_eval_partition.txt"]
        if case % 4:
            files = [root / "img_align_celeba.zip", *root.glob("img_align_celeba/00000[134568].jpg")]
            files = [path for path in files if path.is_file()]
        path = rng.choice(sorted(files))
        kind = ("flip", "flip", "cut", "foreign", "empty")[case % 5]
        path.write_bytes(damaged(path.read_bytes(), kind, rng))
        splits = attempt(CelebA(root, batch_size=1, download=False))
        outcomes.append(type(splits))
        if isinstance(splits, str):
            assert f"{root}/" in splits, (case, kind, splits)
            assert "\n" not in splits
            continue
        assert kind == "flip" or path.suffix == ".txt", (case, kind)
        together = torch.cat([split.images for split in splits])
        if path.suffix == ".jpg":
            assert together.shape == intact.shape
        else:
            assert {bytes(image.numpy()) for image in together} <= true_images, (case, kind)
    assert outcomes.count(str) > 20


def test_every_flip_in_an_archive_s_pictures_is_noticed(tmp_path):
    """One bit in each of the six that are read, at a random place of its compressed bytes."""
    originals.write_celeba(tmp_path / "intact", zipped=True)
    content = (tmp_path / "intact" / "img_align_celeba.zip").read_bytes()
    rng = random.Random(0)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        places = [(info.header_offset + 60, info.compress_size) for info in archive.infolist() if info.file_size]
    for case, number in enumerate((1, 3, 4, 5, 6, 8)):
        start, size = places[number - 1]
        where = start + rng.randrange(size - 60)
        root = tmp_path / str(case)
        originals.write_celeba(root, zipped=True)
        flipped = content[:where] + bytes([content[where] ^ 16]) + content[where + 1 :]
        (root / "img_align_celeba.zip").write_bytes(flipped)
        text = said(CelebA(root, batch_size=1))
        assert f"{number:06}.jpg in {root}/img_align_celeba.zip is damaged (Bad CRC-32" in text


def test_a_flip_in_an_archive_s_directory_is_told_or_does_no_harm(tmp_path, monkeypatch):
    """Sixty random bits, and one of the version that an image needs, of which zipfile raises no BadZipFile."""
    originals.write_celeba(tmp_path, zipped=True)
    intact = torch.cat([split.images for split in CelebA(tmp_path, batch_size=1).splits])
    content = (tmp_path / "img_align_celeba.zip").read_bytes()
    begin = content.index(b"PK\x01\x02")
    rng = random.Random(1)
    for where, bit in [(begin + 6, 6), *((rng.randrange(begin, len(content)), rng.randrange(8)) for _ in range(60))]:
        flipped = content[:where] + bytes([content[where] ^ 1 << bit]) + content[where + 1 :]
        (tmp_path / "img_align_celeba.zip").write_bytes(flipped)
        with monkeypatch.context() as patched:
            patched.setenv(
                "THERMOEBM_CACHE", str(tmp_path / f"{where} {bit}")
            )  # the clock may not tell two writes apart
            splits = attempt(CelebA(tmp_path, batch_size=1))
        if isinstance(splits, str):
            assert splits.startswith(f"{tmp_path}/"), (where, bit, splits)
        else:
            assert torch.equal(torch.cat([split.images for split in splits]), intact)
