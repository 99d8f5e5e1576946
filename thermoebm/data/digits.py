"""Scikit-learn's handwritten digits: 1,797 real 8x8 images that come with the library."""

import torch

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.files import resized
from thermoebm.runtime import randomness


class Digits(ImageDataModule):
    """The UCI handwritten digits of scikit-learn, 8x8 and grey, with seventeen levels; ``root`` is not used.

    There is no official split: the first ``num_val`` images of one fixed permutation are held out, 297 by default.

    Raises:
        ValueError: If ``num_val`` leaves nothing to train on.
    """

    @property
    def divides_itself(self) -> bool:
        return True

    def read(self) -> tuple[Split, Split]:
        from sklearn.datasets import load_digits  # takes most of a second; other data sets do not need it

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        images, labels = resized(images, self.image_size), torch.from_numpy(bunch.target).long()
        num_val = 297 if self.num_val is None else self.num_val
        if num_val >= len(images):
            raise ValueError(f"Digits: num_val is {num_val}; there are {len(images)} images to divide.")
        order = torch.randperm(len(images), generator=randomness.stream("cpu", 0, "digits held out"))
        held_out, train = order[:num_val], order[num_val:][: self.num_train]
        return Split(images[train], labels[train]), Split(images[held_out], labels[held_out])
