"""Our loading against torchvision's, in one run: python benchmarks/data_loading.py [--root data]

Images per second over shuffled epochs in batches of 75, for each data set found under the root and for JPEG files made
here. For comparison: a plain DataLoader over torchvision's own data set of the same files, with 0 and 2 worker
processes (including their start, which is paid each epoch), and how many times faster ours is. "First" is the time of
the first set-up, with decoding; "again" is that of later set-ups, which read the cache.
"""

import thermoebm  # noqa: F401, I001  (before anything that imports torchvision)

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import v2

from thermoebm.data import CIFAR10, MNIST, SVHN, CelebA, ImageDataModule

BATCH, FACES, SUBSET = 75, 1500, 12_000

SCALED = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]


def faces(folder: Path) -> Path:
    """Makes JPEG files of CelebA's size and about its weight (8 kB), laid out as CelebA's are."""
    (folder / "img_align_celeba").mkdir()
    rng = np.random.default_rng(0)
    for number in range(FACES):
        coarse = Image.fromarray(rng.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        picture = coarse.resize((178, 218), Image.Resampling.BICUBIC)
        picture.save(folder / "img_align_celeba" / f"{number:06}.jpg", quality=85)
    lines = (f"{number:06}.jpg {0 if number < FACES - 100 else 2}\n" for number in range(FACES))
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    return folder


def seconds(action: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def speed(loader: DataLoader[Any]) -> float:
    """Images per second, over the whole epochs that are started within one second."""
    shown, begin = 0, time.perf_counter()
    while (took := time.perf_counter() - begin) < 1:
        for batch in loader:
            shown += len(batch[0] if isinstance(batch, list) else batch)
    return shown / took


def line(name: str, make: Callable[[], ImageDataModule], theirs: Any) -> None:
    """Prints one data set's row."""
    data = make()
    first = seconds(data.setup)
    again = seconds(make().setup)
    images = len(data.train_images)
    ours = speed(data.train_dataloader())
    theirs = Subset(theirs, range(min(images, len(theirs))))
    plain = [speed(DataLoader(theirs, BATCH, shuffle=True, drop_last=True, num_workers=n)) for n in (0, 2)]
    size = "x".join(map(str, data.image_shape))
    ratios = "".join(f"{rate:11,.0f}{ours / rate:6.0f}x" for rate in plain)
    print(f"{name:12}{size:>9}{images:8,}{first:8.2f}{again:8.2f}{ours:11,.0f}{ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Loading of images, ours and torchvision's.")
    parser.add_argument("--root", default="data", type=Path, help="the folder of the data sets")
    root = parser.parse_args().root.expanduser()
    torch.set_num_threads(1)
    grey, squeezed = v2.Compose(SCALED), v2.Compose([v2.Resize((64, 64)), *SCALED])
    options = {"download": False, "num_train": SUBSET, "batch_size": BATCH}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["THERMOEBM_CACHE"] = temporary + "/cache"
        print(f"{'':12}{'size':>9}{'images':>8}{'first s':>8}{'again s':>8}{'ours /s':>11}", end="")
        print(f"{'0 workers':>11}{'':7}{'2 workers':>11}")
        for data_set, published in ((MNIST, datasets.MNIST), (CIFAR10, datasets.CIFAR10), (SVHN, datasets.SVHN)):
            try:
                theirs = published(root, transform=grey)
            except RuntimeError:
                print(f"{data_set.__name__:12} is not in {root}")
                continue
            line(data_set.__name__, lambda data_set=data_set: data_set(root, **options), theirs)
        (Path(temporary) / "jpeg").mkdir()
        for name, place in (("CelebA", root), ("CelebA", root / "celeba_raw"), ("JPEG files", None)):
            folder = faces(Path(temporary) / "jpeg") if place is None else CelebA(place).folder
            if not (folder / "img_align_celeba").is_dir() or not (folder / "list_eval_partition.txt").is_file():
                continue
            theirs = datasets.ImageFolder(folder, transform=squeezed)
            line(name, lambda folder=folder: CelebA(folder, **(options | {"num_train": None})), theirs)


if __name__ == "__main__":
    main()
