"""Batches of images in memory: pixel scaling, and an order that is reproducible on resuming."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from thermoebm.modules.persistent import Batch
from thermoebm.runtime import cache, randomness

Shuffle = Literal["each_epoch", "once", "never"]


class Order(DistributedSampler[int]):
    """The order of images, a function of (seed, epoch), divided among the processes of a distributed run.

    A resumed epoch has the same order as an uninterrupted one. Shuffled images are divided evenly and the remainder is
    dropped; unshuffled images are all shown exactly once. Lightning does not replace a DistributedSampler.

    Args:
        length: Number of images.
        shuffle: ``each_epoch``: a new order in each epoch; ``once``: one for all epochs; ``never``: the images' own.
        seed: Seed of the shuffling.
        rank: Index of this process.
        world: Number of processes.

    Attributes:
        skip: How many of this process's images the next iteration leaves out, the first ones.
    """

    def __init__(self, length: int, shuffle: Shuffle, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(
            range(length),  # type: ignore[arg-type]
            num_replicas=world,
            rank=rank,
            shuffle=shuffle != "never",
            seed=seed,
        )
        self.length = length
        self.when = shuffle
        self.skip = 0

    def __len__(self) -> int:
        return len(range(self.rank, self._shared(), self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        order = torch.arange(self.length)
        if self.shuffle:
            epoch = self.epoch if self.when == "each_epoch" else 0
            order = torch.randperm(self.length, generator=randomness.stream("cpu", self.seed, "shuffle", epoch))
        skip, self.skip = self.skip, 0
        return iter(order[self.rank : self._shared() : self.num_replicas][skip:].tolist())

    def _shared(self) -> int:
        return self.length - self.length % self.num_replicas if self.shuffle else self.length


class Images(Dataset[Tensor]):
    """Images stored as uint8 (N, C, H, W); each batch is scaled to float32 in [-1, 1] on the device that holds them.

    Args:
        images: uint8 (N, C, H, W).
        mirror: Order whose seed and epoch determine which images are mirrored; None: no mirroring.
    """

    def __init__(self, images: Tensor, mirror: Order | None = None) -> None:
        self.images = images
        self.mirror = mirror
        self._coins: tuple[int, Tensor] | None = None  # epoch, and which images it mirrors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Tensor:
        """The batch (B, C, H, W) of these images."""
        positions, device = torch.tensor(indices), self.images.device
        batch = self.images[positions.to(device, non_blocking=True)]  # a list would make the host wait for the device
        if self.mirror is not None:
            mirrored = self.mirrored(positions).view(-1, 1, 1, 1).to(device, non_blocking=True)
            batch = torch.where(mirrored, batch.flip(-1), batch)
        return batch.float() / 127.5 - 1

    def mirrored(self, positions: Tensor) -> Tensor:
        """Which of these images (B,) are mirrored in this epoch."""
        if self.mirror is None:
            return torch.zeros_like(positions, dtype=torch.bool)
        return self._mirrored(self.mirror.seed, self.mirror.epoch)[positions]

    def _mirrored(self, seed: int, epoch: int) -> Tensor:
        """Which of the N images are mirrored in this epoch, drawn once for all of its batches."""
        if self._coins is None or self._coins[0] != epoch:
            coins = torch.rand(len(self), generator=randomness.stream("cpu", seed, "mirror", epoch)) < 0.5
            self._coins = epoch, coins
        return self._coins[1]


class Keyed(Dataset[Batch]):
    """The same images with keys: an image's position i; with mirroring 2 i, and 2 i + 1 for its mirror image.

    Args:
        images: The images.

    Attributes:
        num_keys: Number of different keys.
    """

    def __init__(self, images: Images) -> None:
        self.images = images
        self._each = 1 if images.mirror is None else 2
        self.num_keys = self._each * len(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return Batch(*(part[0] for part in self.__getitems__([index])))

    def __getitems__(self, indices: list[int]) -> Batch:
        positions = torch.tensor(indices)
        keys = self._each * positions + self.images.mirrored(positions)
        return Batch(self.images.__getitems__(indices), keys.to(self.images.images.device, non_blocking=True))

    def identity(self) -> str:
        """A text that other images, another order of them or other keys do not have."""
        return f"images {cache.digest(self.images.images)} with {self.num_keys} keys"


class ResumableLoader(DataLoader[Any]):
    """A loader with an :class:`Order`, which a checkpoint within an epoch resumes after the batches that were trained.

    Lightning keeps its state. The loader still counts as long as a whole epoch, whose later batches have their indices.

    Attributes:
        seen: Batches of this epoch that have been handed out.
    """

    seen = 0
    _resumed = 0, -1  # batches, and the epoch they belong to

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        order: Any = self.sampler
        (seen, epoch), self._resumed = self._resumed, (0, -1)
        self.seen = seen if epoch == order.epoch else 0
        order.skip = self.seen * (self.batch_size or 1)
        for batch in super().__iter__():
            self.seen += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen, "epoch": self.sampler.epoch}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resumed = state_dict["seen"], state_dict["epoch"]


def as_is(batch: Any) -> Any:
    """No collation: ``__getitems__`` of the data set has made the batch."""
    return batch
