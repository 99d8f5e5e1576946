"""Scikit-learn's handwritten digits: 1,797 real 8x8 images that come with the library."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from thermoebm import randomness
from thermoebm.data.base import ImageDataModule


class Digits(ImageDataModule):
    """The UCI handwritten digits of scikit-learn, 8x8 and grey, with seventeen levels.

    The held-out images are the same for every seed.

    Args:
        num_val: Number of held-out images.
        batch_size: Images in a batch.
        seed: Of the training order.

    Raises:
        ValueError: If ``num_val`` leaves nothing to train on or nothing to hold out.
    """

    def __init__(self, num_val: int = 297, batch_size: int = 75, seed: int = 0) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if not 0 < num_val < 1797:
            raise ValueError(f"Digits: num_val is {num_val}; there are 1797 images to divide.")
        self.num_val = num_val

    def load(self) -> tuple[Tensor, Tensor]:
        train, held_out = self.labelled()
        return train[0], held_out[0]

    def labelled(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Training and held-out (images, labels): uint8 (N, 1, 8, 8), and the digits 0 to 9 as int64 (N,)."""
        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).long()
        order = torch.randperm(len(images), generator=randomness.stream("cpu", 0, "digits held out"))
        held_out, train = order[: self.num_val], order[self.num_val :]
        return (images[train], labels[train]), (images[held_out], labels[held_out])
