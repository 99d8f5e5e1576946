"""What every data set shares: shuffling that a resumed run repeats, static batch shapes and one scale of pixels."""

from abc import abstractmethod
from collections.abc import Iterator

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from thermoebm import randomness


class Images(Dataset[Tensor]):
    """Images kept as uint8 (N, C, H, W), scaled to float32 in [-1, 1] a batch at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Tensor:
        """The batch (B, C, H, W) of these images."""
        return self.images[indices].float() / 127.5 - 1


class EpochShuffle(Sampler[int]):
    """A permutation that is a function of (seed, epoch): a resumed epoch sees the order it would have seen."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        rng = randomness.stream("cpu", self.seed, "shuffle", self.epoch)
        return iter(torch.randperm(self.length, generator=rng).tolist())


class ImageDataModule(pl.LightningDataModule):
    """Training and held-out images; one batch is a tensor (B, C, H, W), float32 in [-1, 1].

    Training drops the last partial batch, so that compiled code sees one shape.

    Args:
        batch_size: Images in a batch.
        seed: Of the training order. Which images are held out does not depend on it.

    Raises:
        ValueError: If the batch size is below 1.
    """

    def __init__(self, batch_size: int = 75, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"{type(self).__name__}: batch_size is {batch_size}; it must be at least 1.")
        self.batch_size = batch_size
        self.seed = seed
        self._splits: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def load(self) -> tuple[Tensor, Tensor]:
        """Training and held-out images, uint8 (N, C, H, W)."""

    def setup(self, stage: str | None = None) -> None:
        """Loads the images once.

        Raises:
            ValueError: If there are no held-out images, or too few training images for a batch.
        """
        if self._splits is not None:
            return
        train, held_out = self.load()
        if len(train) < self.batch_size or len(held_out) == 0:
            raise ValueError(
                f"{type(self).__name__}: {len(train)} training and {len(held_out)} held-out images; "
                f"one batch takes {self.batch_size}, and at least one image must be held out."
            )
        self._splits = train, held_out

    @property
    def train_images(self) -> Tensor:
        """Training images, uint8 (N, C, H, W)."""
        self.setup()
        assert self._splits is not None
        return self._splits[0]

    @property
    def held_out_images(self) -> Tensor:
        """Held-out images, uint8 (N, C, H, W)."""
        self.setup()
        assert self._splits is not None
        return self._splits[1]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train_images.shape[1:])

    def train_dataloader(self) -> DataLoader[Tensor]:
        images = Images(self.train_images)
        return self._loader(images, sampler=EpochShuffle(len(images), self.seed), drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return self._loader(Images(self.held_out_images))

    def test_dataloader(self) -> DataLoader[Tensor]:
        """The held-out images again, where a data set has no third split."""
        return self.val_dataloader()

    def _loader(
        self, images: Images, sampler: Sampler[int] | None = None, drop_last: bool = False
    ) -> DataLoader[Tensor]:
        return DataLoader(images, self.batch_size, sampler=sampler, drop_last=drop_last, collate_fn=_as_is)  # type: ignore[arg-type]


def _as_is(batch: Tensor) -> Tensor:
    """No collation: :meth:`Images.__getitems__` has made the batch."""
    return batch
