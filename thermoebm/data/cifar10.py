"""CIFAR-10 in its original Python batches, through torchvision."""

import warnings
from pathlib import Path

import torch
from torchvision import datasets

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.download import obtain
from thermoebm.data.files import check_md5, resized, stamp


class CIFAR10(ImageDataModule):
    """Small photographs in ten classes (Krizhevsky 2009): 50,000 training and 10,000 held-out colour images of 32x32.

    The files are ``root/cifar-10-batches-py/*_batch*`` and ``batches.meta``, as they come out of the archive.
    """

    def checksums(self) -> dict[Path, str]:
        """The MD5 of each file, as listed by torchvision."""
        published, meta = datasets.CIFAR10, datasets.CIFAR10.meta
        named = [*published.train_list, *published.test_list, (meta["filename"], meta["md5"])]
        return {self.root / published.base_folder / name: md5 for name, md5 in named}

    def obtain(self) -> None:
        by_hand = f"download {datasets.CIFAR10.url} and unpack it in {self.root}"
        fetch = (lambda folder: datasets.CIFAR10(folder, download=True)) if self.download else None
        obtain("CIFAR10", self.root, dict.fromkeys(self.checksums(), by_hand), fetch)

    def source(self) -> list[str]:
        return stamp(self.checksums())

    def read(self) -> tuple[Split, Split]:
        # The batches are pickles, which may run any code when they are read: none is opened before all are checked.
        for path, md5 in self.checksums().items():
            check_md5(path, md5, "CIFAR-10")
        return self._split(True, self.num_train), self._split(False, self.num_val)

    def _split(self, train: bool, count: int | None) -> Split:
        with warnings.catch_warnings():
            # The batches were pickled by a numpy of 2009, in a way that numpy 2.4.0 to 2.4.4 warn about.
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
            data = datasets.CIFAR10(self.root, train=train)
        images = torch.from_numpy(data.data[:count]).permute(0, 3, 1, 2).contiguous()  # torchvision's are (N, H, W, C)
        return Split(resized(images, self.image_size), torch.tensor(data.targets[:count]))
