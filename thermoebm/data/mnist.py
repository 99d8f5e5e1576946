"""MNIST in its original idx files, through torchvision."""

from pathlib import Path

from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.download import obtain
from thermoebm.data.files import check_md5, resized, stamp

# MD5 of the four unpacked files; torchvision lists those of the archives only.
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

    def obtain(self) -> None:
        mirror = datasets.MNIST.mirrors[0]
        files = {path: f"download {mirror}{path.name}.gz and unpack it in {path.parent}" for path in self.files()}
        fetch = (lambda folder: datasets.MNIST(folder, download=True)) if self.download else None
        obtain("MNIST", self.root, files, fetch)

    def source(self) -> list[str]:
        return stamp(self.files())

    def read(self) -> tuple[Split, Split]:
        for path in self.files():
            check_md5(path, _MD5[path.name], "MNIST")
        train_images, train_labels, images, labels = self.files()
        return self._split(train_images, train_labels, self.num_train), self._split(images, labels, self.num_val)

    def _split(self, images: Path, labels: Path, count: int | None) -> Split:
        # torchvision's readers, not its class, which would prefer the unchecked MNIST/processed/*.pt.
        pixels = read_image_file(str(images))[:count].unsqueeze(1)
        return Split(resized(pixels, self.image_size), read_label_file(str(labels))[:count])
