"""Image files: identification for the cache, MD5 checks and resizing."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional


def stamp(files: Iterable[Path]) -> list[str]:
    """Paths, sizes and modification times; images are decoded again if any of these changes.

    Raises:
        ValueError: If a file does not exist or cannot be accessed.
    """
    try:
        # repr: a name that is no UTF-8 cannot be encoded as it is.
        return [f"{str(path.absolute())!r} {(info := path.stat()).st_size} {info.st_mtime_ns}" for path in files]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror}).") from None


def check_md5(path: Path, md5: str, title: str, content: bytes | None = None) -> None:
    """Raises a ValueError unless the file, or ``content`` in its place, is what the data set's authors published."""
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from None
    if found != md5:
        raise ValueError(
            f"{path} is not {title}'s {path.name}: it is damaged or another file (MD5 {found}, not {md5}); "
            "remove it and get it again."
        )


def resized(images: Tensor, size: int | None) -> Tensor:
    """Uncropped uint8 images (N, C, H, W) at (size, size) by antialiased bilinear interpolation; None: unchanged."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    parts = [functional.resize(part, [size, size], antialias=True) for part in images.split(1000)]
    return torch.cat(parts)
