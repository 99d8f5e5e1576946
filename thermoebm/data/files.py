"""Files of images: what they are known by, what is wrong with them, and how pictures become arrays of one size."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional


def stamp(files: Iterable[Path]) -> list[str]:
    """Names, sizes and times of change: what is decoded anew if it differs.

    Raises:
        ValueError: If there is no such file.
    """
    try:
        return [f"{path.absolute()} {(info := path.stat()).st_size} {info.st_mtime_ns}" for path in files]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}).") from None


def check_md5(path: Path, md5: str, title: str) -> None:
    """Raises a ValueError unless the file is the one that the data set's authors published."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from None
    if found != md5:
        raise ValueError(
            f"{path} is not {title}'s {path.name}: it is damaged or another file (MD5 {found}, not {md5}); "
            "remove it and get it again."
        )


def resized(images: Tensor, size: int | None) -> Tensor:
    """Whole images uint8 (N, C, H, W) at (size, size) by antialiased bilinear interpolation; None: as they are."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    parts = [functional.resize(part, [size, size], antialias=True) for part in images.split(1000)]
    return torch.cat(parts)
