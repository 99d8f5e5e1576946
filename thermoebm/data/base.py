"""The base class of the data sets: splits, disk cache, shuffling that is reproducible on resuming, pixel scaling."""

import copy
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import PIL
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from thermoebm.data.batches import Images, Keyed, Order, ResumableLoader, Shuffle, as_is
from thermoebm.modules.persistent import Batch
from thermoebm.runtime import cache
from thermoebm.runtime.files import from_text

# Part of the cache key, as is Pillow's version. Increase it when a change of the code changes the decoded pixels.
_VERSION = 3


class Split(NamedTuple):
    """Images, uint8 (N, C, H, W), and their labels, int64 (N,), if there are any."""

    images: Tensor
    labels: Tensor | None


class ImageDataModule(pl.LightningDataModule):
    """Training and held-out images; one batch is a tensor (B, C, H, W), float32 in [-1, 1].

    A data set is read and decoded once, and kept as uint8 in memory and, if it has a :meth:`source`, in the cache on
    disk (see :mod:`thermoebm.runtime.cache`). Labels are never needed for training. Training drops the last partial
    batch, so that compiled code sees one shape.

    Args:
        root: Folder of the data set's files, or the file itself; ``\\xHH`` is a byte of a name that is not UTF-8.
        num_train: Number of training images, the first ones in the data set's own order; None: all.
        num_val: Number of held-out images, likewise.
        image_size: Side of the images in pixels; None: no resizing.
        batch_size: Images in a batch.
        seed: Seed of the training order and of the augmentation; which images are held out does not depend on it.
        download: Download what is absent and can be downloaded: the data set's files, and weights that a metric needs.
        augment: ``flip`` mirrors each training image with probability 1/2, anew each epoch.
        shuffle: A new order in each epoch (``each_epoch``), or one order for all (``once``), as in the report's code.
        resident: Keep the images in the training device's memory; ``auto``: on CUDA only.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(
        self,
        root: str | Path = "data",
        num_train: int | None = None,
        num_val: int | None = None,
        image_size: int | None = None,
        batch_size: int = 75,
        seed: int = 0,
        download: bool = False,
        augment: Literal["none", "flip"] = "none",
        shuffle: Literal["each_epoch", "once"] = "each_epoch",
        resident: Literal["auto", "on", "off"] = "auto",
    ) -> None:
        super().__init__()
        numbers = {"num_train": num_train, "num_val": num_val, "image_size": image_size, "batch_size": batch_size}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{type(self).__name__}: {name} is {number}; it must be at least 1.")
        self.root = from_text(Path(root).expanduser())
        self.num_train = num_train
        self.num_val = num_val
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        self.download = download
        self.augment = augment
        self.shuffle = shuffle
        self.resident = resident
        self._splits: tuple[Split, Split] | None = None
        self._on_device: dict[tuple[torch.device, int], Tensor] = {}

    # Defined by each data set

    @abstractmethod
    def read(self) -> tuple[Split, Split]:
        """Reads and decodes training and held-out images.

        Raises:
            ValueError: If a file is absent, damaged or not the expected one; the message names it and the remedy.
        """

    def source(self) -> list[str] | None:
        """Everything the decoded images depend on: files (see :func:`thermoebm.data.files.stamp`) and options.

        It is part of the cache key. None: nothing is cached on disk.
        """
        return None

    def obtain(self) -> None:
        """Ensures that the files exist; downloads missing ones if that is allowed.

        Raises:
            ValueError: If a file is still absent; the message says which, where to get it and where to put it.
        """
        return None

    @property
    def title(self) -> str:
        """The data set's name in lower case, as used in the names of distances: ``FD[classifier:digits]``."""
        return type(self).__name__.lower()

    @property
    def divides_itself(self) -> bool:
        """Whether ``num_val`` determines which images are held out, because there is no official split."""
        return False

    def whole(self) -> "ImageDataModule":
        """The same data set with all of its images; none of them changes its split."""
        other = copy.copy(self)
        other.num_train = other._splits = None
        if not self.divides_itself:
            other.num_val = None
        return other

    # Splits

    def prepare_data(self) -> None:
        """Downloads and decodes, so that other processes find the result in the cache."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Loads the images once.

        Raises:
            ValueError: If there are fewer images than requested, none held out, or too few training images for a batch.
        """
        if self._splits is not None:
            return
        splits = self._load()
        wanted = {"training": max(self.num_train or 1, self.batch_size), "held-out": self.num_val or 1}
        for (kind, least), split in zip(wanted.items(), splits, strict=True):
            if len(split.images) < least:
                raise ValueError(
                    f"{type(self).__name__}: {len(split.images)} {kind} images, of which {least} are needed; "
                    f"num_train is {self.num_train}, num_val {self.num_val} and one batch takes {self.batch_size}."
                )
        self._splits = splits

    def _load(self) -> tuple[Split, Split]:
        self.obtain()
        source = self.source()
        if source is None:
            return self.read()

        def make() -> dict[str, Any]:
            train, held_out = self.read()
            # A slice of a larger tensor would be saved, and kept in memory, with the storage of the whole tensor.
            return {"train": _apart(train), "held out": _apart(held_out)}

        wanted = (self.num_train, self.num_val, self.image_size)
        decoder = f"images {_VERSION}, Pillow {PIL.__version__}"
        key = cache.digest(decoder, type(self).__name__, *source, repr(wanted))
        kept = cache.cached(cache.folder() / "images" / f"{self.title}-{key}.pt", make)
        return Split(*kept["train"]), Split(*kept["held out"])

    @property
    def splits(self) -> tuple[Split, Split]:
        """Training and held-out images with their labels."""
        self.setup()
        assert self._splits is not None
        return self._splits

    @property
    def train_images(self) -> Tensor:
        """Training images, uint8 (N, C, H, W)."""
        return self.splits[0].images

    @property
    def held_out_images(self) -> Tensor:
        """Held-out images, uint8 (N, C, H, W)."""
        return self.splits[1].images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train_images.shape[1:])

    # Batches

    def check_shares(self, world: int) -> None:
        """Checks that each of ``world`` processes has a batch: an epoch without one would train nothing, unnoticed.

        Raises:
            ValueError: If a process's share of the training images is smaller than a batch.
        """
        share = len(self.train_images) // world
        if share < self.batch_size:
            raise ValueError(
                f"{type(self).__name__}: {len(self.train_images)} training images are {share} for each of {world} "
                f"processes, and one batch takes {self.batch_size}; take fewer processes or a smaller batch_size."
            )

    def batch_sizes(self, world: int) -> set[int]:
        """Sizes of the batches that ``world`` processes meet: whole ones, and the last held-out one of each."""
        shares = [len(range(rank, len(self.held_out_images), world)) for rank in range(world)]
        return {self.batch_size} | {share % self.batch_size for share in shares} - {0}

    def train_dataloader(self) -> DataLoader[Any]:
        order = self._order(self.train_images, self.shuffle)
        self.check_shares(order.num_replicas)
        images = Images(self._placed(self.train_images), order if self.augment == "flip" else None)
        model = getattr(self.trainer, "lightning_module", None)  # asked here: loaders may be made before its set-up
        shown = Keyed(images) if getattr(model, "keyed", False) else images
        return ResumableLoader(shown, self.batch_size, sampler=order, drop_last=True, collate_fn=as_is)

    def val_dataloader(self) -> DataLoader[Tensor]:
        images, order = Images(self._placed(self.held_out_images)), self._order(self.held_out_images, "never")
        return DataLoader(images, self.batch_size, sampler=order, collate_fn=as_is)

    def test_dataloader(self) -> DataLoader[Tensor]:
        """The held-out images again: there is no third split."""
        return self.val_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Gives the keys of a batch to the model, for this step, and its images to everything that sees the batch."""
        if not isinstance(batch, Batch):
            return batch
        self.trainer.lightning_module.keys = batch.keys  # type: ignore[union-attr]
        return batch.images

    def _order(self, images: Tensor, shuffle: Shuffle) -> Order:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return Order(len(images), shuffle, self.seed, rank, world)

    def _placed(self, images: Tensor) -> Tensor:
        """The images, moved to the training device if they are to be kept there."""
        device = self.trainer.strategy.root_device if self.trainer is not None else images.device
        resident = self.resident == "on" or (self.resident == "auto" and device.type == "cuda")
        if not resident:
            return images
        key = device, images.data_ptr()  # identifies the split: both tensors live as long as this object
        if key not in self._on_device:
            self._on_device[key] = images.to(device)
        return self._on_device[key]


def _apart(split: Split) -> tuple[Tensor | None, ...]:
    """The split's tensors; those that are views of a larger storage are cloned."""
    return tuple(
        part if part is None or part.untyped_storage().nbytes() == part.nbytes else part.clone() for part in split
    )
