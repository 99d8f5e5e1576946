"""Which real images a callback measures with, while a model trains on some of them."""

from collections.abc import Sequence
from typing import Literal

from thermoebm.data import ImageDataModule

SplitName = Literal["train", "test"]


def checked(owner: str, splits: Sequence[SplitName]) -> tuple[SplitName, ...]:
    """The splits, if they are some.

    Raises:
        ValueError: If there is none, one is unknown or named twice; ``owner`` is named.
    """
    if not splits or len(set(splits)) < len(splits) or not set(splits) <= {"train", "test"}:
        raise ValueError(f"{owner}: splits is {list(splits)}; give [train], [test] or both.")
    return tuple(splits)


def images_module(owner: str, data: object) -> ImageDataModule:
    """A trainer's data, if it has both splits.

    Raises:
        ValueError: If it is no ImageDataModule; ``owner`` is named.
    """
    if not isinstance(data, ImageDataModule):
        raise ValueError(f"{owner} needs the images of an ImageDataModule; this trainer has none.")
    return data
