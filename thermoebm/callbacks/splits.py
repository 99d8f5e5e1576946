"""The splits of real images that a callback measures with."""

from collections.abc import Sequence
from typing import Literal

from thermoebm.data import ImageDataModule

SplitName = Literal["train", "test"]


def checked(owner: str, splits: Sequence[SplitName]) -> tuple[SplitName, ...]:
    """Checks a callback's splits and returns them.

    Raises:
        ValueError: If there is none, or one is unknown or repeated; the message names ``owner``.
    """
    if not splits or len(set(splits)) < len(splits) or not set(splits) <= {"train", "test"}:
        raise ValueError(f"{owner}: splits is {list(splits)}; give [train], [test] or both.")
    return tuple(splits)


def images_module(owner: str, data: object) -> ImageDataModule:
    """Checks that a trainer's data has both splits and returns it.

    Raises:
        ValueError: If it is not an ImageDataModule; the message names ``owner``.
    """
    if not isinstance(data, ImageDataModule):
        raise ValueError(f"{owner} needs the images of an ImageDataModule; this trainer has none.")
    return data
