"""Real images, where they are: CelebA in a zip, CIFAR-10 in an npz."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thermoebm.data import Arrays, ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def real(real_data: Path, request: pytest.FixtureRequest) -> Path:
    """The file of that name."""
    path = real_data / request.param
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@pytest.mark.parametrize("real", ["celeba_64.zip"], indirect=True)
def test_celeba_64_is_read_from_its_zip(real):
    """The first and the last pictures of each split are looked up by name; the rest is counted."""
    data = ImageFolder(real)
    train, held_out = data.train_images, data.held_out_images
    assert (train.shape, held_out.shape) == ((12_000, 3, 64, 64), (4_500, 3, 64, 64))
    assert data.title == "celeba_64"
    with zipfile.ZipFile(real) as file:
        for images, folder in ((train, "train/"), (held_out, "test/")):
            names = sorted(name for name in file.namelist() if name.startswith(folder) and name.endswith(".jpg"))
            for index in (0, 1, 777, -1):
                expected = np.asarray(Image.open(io.BytesIO(file.read(names[index]))))
                assert (images[index].permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize("real", ["cifar10.npz"], indirect=True)
def test_cifar10_is_read_from_its_npz(real):
    data = Arrays(real)
    with np.load(real) as file:
        for split, key in zip(data.splits, ("train", "test"), strict=True):
            assert (split.images.permute(0, 2, 3, 1).numpy() == file[key]).all()
            assert (split.labels.numpy() == file[f"{key}_labels"]).all()
    assert (len(data.train_images), len(data.held_out_images)) == (12_000, 4_500)
