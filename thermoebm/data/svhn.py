"""SVHN in its original MATLAB files, through torchvision."""

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torchvision import datasets

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.download import obtain
from thermoebm.data.files import check_md5, resized, stamp


class SVHN(ImageDataModule):
    """Street View house numbers, cropped (Netzer et al. 2011): 73,257 training, 26,032 held-out colour images of 32x32.

    The files are ``root/train_32x32.mat`` and ``root/test_32x32.mat``. Each label is the digit itself: label 10
    of the files becomes 0. The ``extra`` images are not used.
    """

    def files(self) -> dict[Literal["train", "test"], Path]:
        return {
            "train": self.root / datasets.SVHN.split_list["train"][1],
            "test": self.root / datasets.SVHN.split_list["test"][1],
        }

    def obtain(self) -> None:
        for split, path in self.files().items():
            by_hand = f"download {datasets.SVHN.split_list[split][0]} to {self.root}"
            fetch = partial(datasets.SVHN, split=split, download=True) if self.download else None
            obtain("SVHN", self.root, {path: by_hand}, fetch)

    def source(self) -> list[str]:
        return stamp(self.files().values())

    def read(self) -> tuple[Split, Split]:
        for split, path in self.files().items():
            check_md5(path, datasets.SVHN.split_list[split][2], "SVHN")
        return self._split("train", self.num_train), self._split("test", self.num_val)

    def _split(self, split: str, count: int | None) -> Split:
        data = datasets.SVHN(self.root, split)  # images are a view (N, C, H, W); label 10 has become 0
        images, labels = torch.from_numpy(data.data[:count]).contiguous(), torch.from_numpy(data.labels[:count])
        return Split(resized(images, self.image_size), labels)
