"""MNIST in its original idx files, through torchvision."""

from pathlib import Path

from torchvision import datasets

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.files import check_md5, resized, stamp

# Of the four files, as their authors publish them.
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class MNIST(ImageDataModule):
    """Handwritten digits (LeCun et al. 1998): 60,000 training and 10,000 held-out grey images of 28x28.

    The four files are ``root/MNIST/raw/*-ubyte``, as torchvision leaves them.
    """

    def files(self) -> list[Path]:
        return [self.root / "MNIST" / "raw" / name for name in _MD5]

    def source(self) -> list[str]:
        return stamp(self.files())

    def read(self) -> tuple[Split, Split]:
        for path in self.files():
            check_md5(path, _MD5[path.name], "MNIST")
        return self._split(True, self.num_train), self._split(False, self.num_val)

    def _split(self, train: bool, count: int | None) -> Split:
        data = datasets.MNIST(self.root, train=train, download=False)
        return Split(resized(data.data[:count].unsqueeze(1), self.image_size), data.targets[:count].long())
