"""Looks up data sets by name."""

from typing import Any

from thermoebm.data.arrays import Arrays
from thermoebm.data.base import ImageDataModule
from thermoebm.data.celeba import CelebA
from thermoebm.data.cifar10 import CIFAR10
from thermoebm.data.digits import Digits
from thermoebm.data.mnist import MNIST
from thermoebm.data.own import ImageFolder
from thermoebm.data.svhn import SVHN

_SETS = {kind.__name__.lower(): kind for kind in (Arrays, CelebA, CIFAR10, Digits, ImageFolder, MNIST, SVHN)}


def named(name: str, own: ImageDataModule | None = None, **options: Any) -> ImageDataModule:
    """The data set of this name, which is its class's in lower case.

    Args:
        name: For instance ``digits`` or ``mnist``.
        own: Data set that is returned if the name is its title, or empty.
        options: Arguments of any other data set, for instance ``root``.

    Raises:
        ValueError: If there is no such data set.
    """
    if own is not None and name in ("", own.title):
        return own
    if name not in _SETS:
        raise ValueError(f"There is no data set '{name}'; choose one of {', '.join(sorted(_SETS))}.")
    return _SETS[name](**options)
