"""Data sets by their names."""

from typing import Any

import thermoebm.data
from thermoebm.data.base import ImageDataModule


def named(name: str, own: ImageDataModule | None = None, **options: Any) -> ImageDataModule:
    """The data set of this name (its class's, whatever the case).

    Args:
        name: For instance ``digits`` or ``mnist``.
        own: Is taken if the name is its own, or empty.
        options: Of any other, for instance ``root``.

    Raises:
        ValueError: If there is none.
    """
    if own is not None and name in ("", own.title):
        return own
    sets = {
        key.lower(): member
        for key, member in vars(thermoebm.data).items()
        if isinstance(member, type) and issubclass(member, ImageDataModule) and member is not ImageDataModule
    }
    if name not in sets:
        raise ValueError(f"There is no data set '{name}'; choose one of {', '.join(sorted(sets))}.")
    data: ImageDataModule = sets[name](**options)
    return data
