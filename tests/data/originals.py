"""Small data sets in the original formats of the real ones, written from the formats' descriptions.

Every function writes the files of one set below a folder and returns what must be read from them: images uint8
(N, C, H, W) and labels, for training and held out. Pixels are random, so that no two axes and no two images can be
exchanged unnoticed; only JPEG, which is lossy, has what compresses well.
"""

import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision import datasets

from thermoebm.data import ImageDataModule, mnist

Truth = list[tuple[np.ndarray, np.ndarray]]


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def md5(path: Path) -> str:
    return md5_of(path.read_bytes())


def random_images(seed: int, num: int, channels: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num, channels, side, side), dtype=np.uint8)
    return images, np.arange(num) * 7 % 10


def idx(array: np.ndarray) -> bytes:
    """Big-endian: two zeros, type 8 (unsigned byte), number of axes; their lengths; the values, last axis fastest."""
    values = bytes(int(value) for value in np.nditer(array, order="C"))
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + values


def write_mnist(root: Path, monkeypatch) -> Truth:
    """Twelve and five images of 28x28."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    truth = [random_images(0, 12, 1, 28), random_images(1, 5, 1, 28)]
    for prefix, (images, labels) in zip(("train", "t10k"), truth, strict=True):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images[:, 0]))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    monkeypatch.setattr(mnist, "_MD5", {name: md5(folder / name) for name in mnist._MD5})
    return truth


class OldPickler(pickle.Pickler):
    """Writes a numpy type as numpy did in 2009, with integers for what are booleans now."""

    def reducer_override(self, value):
        return (
            (np.dtype, (value.str[1:], 0, 1), value.__reduce__()[2]) if isinstance(value, np.dtype) else NotImplemented
        )


def write_cifar10(root: Path, monkeypatch) -> Truth:
    """Five batches of three images and one of four; a row is the red, the green and the blue plane, each row by row."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    truth = [random_images(2, 15, 3, 32), random_images(3, 4, 3, 32)]
    (images, labels), held_out = truth
    batches = [(images[i : i + 3], labels[i : i + 3]) for i in range(0, 15, 3)] + [held_out]
    names = [name for name, _ in [*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list]]
    contents = [{"label_names": list("abcdefghij")}]
    for pixels, numbers in batches:
        rows = [np.concatenate([plane.ravel() for plane in image]) for image in pixels]
        contents.append({"data": np.stack(rows), "labels": numbers.tolist(), "batch_label": "", "filenames": []})
    for name, content in zip(["batches.meta", *names], contents, strict=True):
        buffer = io.BytesIO()
        OldPickler(buffer, protocol=2).dump(content)
        (folder / name).write_bytes(buffer.getvalue().replace(b"numpy._core", b"numpy.core"))
    for table in ("train_list", "test_list"):
        known = [[name, md5(folder / name)] for name, _ in getattr(datasets.CIFAR10, table)]
        monkeypatch.setattr(datasets.CIFAR10, table, known)
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", md5(folder / "batches.meta"))
    return truth


def write_svhn(root: Path, monkeypatch) -> Truth:
    """Twelve and five images; X is (row, column, channel, image), y is (N, 1), where the digit 0 has the label 10."""
    root.mkdir(parents=True, exist_ok=True)
    truth = [random_images(4, 12, 3, 32), random_images(5, 5, 3, 32)]
    table = dict(datasets.SVHN.split_list)
    for split, (images, labels) in zip(("train", "test"), truth, strict=True):
        x = np.empty((32, 32, 3, len(images)), np.uint8)
        for n, image in enumerate(images):
            for channel, plane in enumerate(image):
                x[:, :, channel, n] = plane
        y = np.array([[10 if label == 0 else label] for label in labels], np.uint8)
        url, name, _ = table[split]
        scipy.io.savemat(root / name, {"X": x, "y": y}, do_compression=True)
        table[split] = [url, name, md5(root / name)]
    monkeypatch.setattr(datasets.SVHN, "split_list", table)
    return truth


def face(number: int) -> np.ndarray:
    """178x218 as (218, 178, 3): three flat bands across and three down, each colour a function of number and place."""
    image = np.empty((218, 178, 3), np.uint8)
    for down, rows in enumerate((slice(0, 72), slice(72, 144), slice(144, 218))):
        for across, columns in enumerate((slice(0, 64), slice(64, 112), slice(112, 178))):
            image[rows, columns] = (number * 23 % 256, 20 + 80 * down, 40 + 70 * across)
    return image


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


FACES = {1: 0, 2: 1, 3: 0, 4: 2, 5: 0, 6: 2, 7: 1, 8: 0}


def write_celeba(folder: Path, zipped: bool = False) -> dict[int, int]:
    """Eight faces and their partitions, in a folder or the archive; returns the partition of each number."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{number:06}.jpg {part}\n" for number, part in FACES.items())
    (folder / "list_eval_partition.txt").write_text(lines)
    files = {f"img_align_celeba/{number:06}.jpg": jpeg(face(number)) for number in FACES}
    if zipped:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            archive.mkdir("img_align_celeba")
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        (folder / "img_align_celeba").mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return FACES


WRITERS: dict[str, Callable[..., Truth]] = {"MNIST": write_mnist, "CIFAR10": write_cifar10, "SVHN": write_svhn}


def said(data: ImageDataModule) -> str:
    """What a data set that cannot be read says, which must be one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the callers look at the text)
        data.setup()
    assert "\n" not in str(caught.value)
    return str(caught.value)
