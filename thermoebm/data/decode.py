"""Decodes picture files to uint8 tensors of one shape, with a sentence for each file that cannot be decoded."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from thermoebm.data.pixels import UnfitError, eight_bits, flat
from thermoebm.runtime.progress import bar

# PIL supports more formats, some of which start other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# How files of kinds that are not read begin, within their first bytes.
_OTHERS = {
    b"ftypavi": "an AVIF picture",
    b"ftyphei": "a HEIC picture",
    b"ftypmif": "a HEIF picture",
    b"jP  ": "a JPEG 2000 picture",
    b"JXL ": "a JPEG XL picture",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"<svg": "an SVG drawing",
}
_MOST_PIXELS = 100_000_000
# The marker that ends a JPEG's entropy-coded data: no stuffed zero and no restart marker (ITU-T T.81, B.1.1.5).
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

Crop = Literal["whole", "center"]


class Picture(NamedTuple):
    """A picture that is not read yet."""

    name: str
    read: Callable[[], bytes]


class Decoded(NamedTuple):
    """Images, uint8 (N, C, H, W), the indices of their pictures, and a sentence for each picture that failed."""

    images: Tensor
    kept: list[int]
    faults: list[str]


def decode(read: Callable[[], bytes], name: str, size: int | None, crop: Crop, channels: int) -> Tensor:
    """One picture, upright as its EXIF orientation says, as uint8 (C, H, W).

    Transparent parts are shown on white, 16 bits keep their high byte, and an animation gives its first frame.
    Resizing is PIL's antialiased bilinear interpolation.

    Args:
        read: Returns the file's bytes.
        name: Name of the picture in error messages.
        size: Side in pixels; None: no resizing.
        crop: ``whole`` squeezes the whole picture into the square; ``center`` resizes its shorter side to ``size`` and
            crops the centre (Pang et al. 2020); of a picture so long that this would take gigabytes, first the middle.
        channels: 1 (grey, ITU-R 601 luma) or 3 (red, green, blue).

    Raises:
        ValueError: If it cannot be decoded; the message begins with ``name``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL warns about EXIF data and the like; real faults are raised
            pixels = np.asarray(_resize(flat(_load(read()), channels), size, crop))
    except UnfitError as error:
        raise ValueError(f"{name} {error}") from None
    except MemoryError:
        raise ValueError(f"{name} takes more memory than there is") from None
    except Exception as error:  # PIL and zipfile raise many types on damaged data
        if isinstance(error, OSError) and error.errno:  # the system's; PIL's have no number
            raise ValueError(f"{name} cannot be read ({error.strerror})") from None
        raise ValueError(f"{name} is damaged ({_one_line(error)})") from None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1).copy())


def decode_first(
    pictures: Sequence[Picture], count: int, size: int | None, crop: Crop, channels: int, title: str | None = None
) -> Decoded:
    """Decodes pictures in order until ``count`` of them have been read or none is left.

    Decoding is sequential: most of the time is spent in Python, and a second thread made it no faster.

    Args:
        pictures: The pictures, in order.
        count: Number of images.
        size: See :func:`decode`.
        crop: See :func:`decode`.
        channels: See :func:`decode`.
        title: Title of the progress bar; None: no bar.

    Raises:
        ValueError: If ``size`` is None and two pictures differ in size; the message names both.
    """
    count = min(count, len(pictures))
    images = torch.empty(0, channels, size or 0, size or 0, dtype=torch.uint8)
    kept: list[int] = []
    faults: list[str] = []
    with bar(count, title, "image") as progress:
        for index, picture in enumerate(pictures):
            if len(kept) == count:
                break
            try:
                image = decode(picture.read, picture.name, size, crop, channels)
            except ValueError as error:
                faults.append(str(error))
                continue
            if not kept:
                images = torch.empty(count, *image.shape, dtype=torch.uint8)
            elif image.shape != images.shape[1:]:
                (h, w), (h0, w0) = image.shape[1:], images.shape[2:]
                raise ValueError(
                    f"{picture.name} has {w}x{h} pixels and {pictures[kept[0]].name} {w0}x{h0}; "
                    "set image_size to bring all to one size."
                )
            images[len(kept)] = image
            kept.append(index)
            progress.update()
    return Decoded(images[: len(kept)], kept, faults)


def complaint(faults: Sequence[str], total: int) -> str:
    """A clause that says how many of ``total`` pictures cannot be read, and lists the first ten faults."""
    told = "; ".join(faults[:10]) + ("; ..." if len(faults) > 10 else "")
    return f"{len(faults)} of {total} pictures cannot be read: {told}"


def _load(content: bytes) -> Image.Image:
    """The picture with all pixels loaded, in 8 bits, rotated upright."""
    if not content:
        raise UnfitError("is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        too_large = image.width * image.height > _MOST_PIXELS
    except Image.DecompressionBombError:
        too_large = True
    except Exception as error:  # of a kind that PIL does not read, or damaged: its header does not tell
        raise UnfitError(_unopened(content, error)) from None
    if too_large:
        raise UnfitError(f"has more than {_MOST_PIXELS:,} pixels")
    if image.format == "PNG":
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()  # its checksums, which load() ignores
    if image.format in ("JPEG", "MPO"):  # MPO: several JPEGs, of which PIL shows the first
        _check_scan(content)
    image.load()
    return ImageOps.exif_transpose(eight_bits(image, content))


def _unopened(content: bytes, error: Exception) -> str:
    """Why a picture cannot be opened, as far as its first bytes tell."""
    for mark, kind in _OTHERS.items():
        if mark in content[:16]:
            return f"is {kind}, which cannot be read here; convert it to PNG or JPEG"
    detail = "" if isinstance(error, UnidentifiedImageError) else f" ({_one_line(error)})"
    return f"is not an image that can be read here, or is damaged at its beginning{detail}"


def _check_scan(content: bytes) -> None:
    """Refuses a JPEG whose first scan ends in an undefined marker; PIL would return the part before it.

    No more damage can be detected without decoding: a JPEG has no checksum, and a run of zeros may be coefficients.
    """
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != b"\xff":
        is_scan = content[place + 1 : place + 2] == b"\xda"
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
        if is_scan:
            end = _MARKER.search(content, place)
            if end and end[1] < b"\xc0":
                raise ValueError(f"there is no marker {end[1].hex()} to end its scan")
            return


def _resize(image: Image.Image, size: int | None, crop: Crop) -> Image.Image:
    """Resized; no step has more pixels than a picture may have, though a long one would have them at ``size``."""
    if size is None or image.size == (size, size):
        return image
    if crop == "whole":
        if size * image.height > _MOST_PIXELS:  # PIL changes the width first
            image = image.resize((image.width, size), Image.Resampling.BILINEAR)
        return image.resize((size, size), Image.Resampling.BILINEAR)
    shorter = min(image.size)
    width, height = (int(size * side / shorter) for side in image.size)
    if width * height > _MOST_PIXELS and max(image.size) > 3 * shorter + 1:
        across, down = (max(side - 3 * shorter, 0) // 2 for side in image.size)
        return _resize(image.crop((across, down, image.width - across, image.height - down)), size, crop)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
