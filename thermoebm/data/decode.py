"""Bytes of picture files to uint8 tensors of one shape, and a sentence for each file that is no picture."""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from thermoebm.progress import bar

# PIL knows more, some of which start other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 100_000_000
_CHUNK = 256

Crop = Literal["whole", "center"]


class Picture(NamedTuple):
    """A picture that is not read yet."""

    name: str
    read: Callable[[], bytes]


class Decoded(NamedTuple):
    """Images uint8 (N, C, H, W), which of the pictures they are, and what is wrong with those that are not."""

    images: Tensor
    kept: list[int]
    faults: list[str]


def decode(read: Callable[[], bytes], name: str, size: int | None, crop: Crop, channels: int) -> Tensor:
    """One picture, upright as its EXIF orientation says, as uint8 (C, H, W).

    Transparent parts show a white background, 16-bit grey keeps its high byte, of an animation the first frame counts.
    Resizing is PIL's antialiased bilinear interpolation.

    Args:
        read: Returns the file's bytes.
        name: What the picture is called in a sentence.
        size: Side in pixels; None: as it is.
        crop: ``whole`` squeezes the whole picture into the square; ``center`` brings its shorter side to ``size`` and
            cuts the middle out (Pang et al. 2020).
        channels: 1 (grey, ITU-R 601 luma) or 3 (red, green, blue).

    Raises:
        ValueError: If it cannot be read; the sentence begins with ``name``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(read, name, size, crop, channels)


def decode_first(
    pictures: Sequence[Picture], count: int, size: int | None, crop: Crop, channels: int, title: str | None = None
) -> Decoded:
    """Decodes pictures, some at once, until ``count`` of them have been readable or there are no more.

    Args:
        pictures: In order.
        count: Number of images.
        size: See :func:`decode`, as for ``crop`` and ``channels``.
        crop: See there.
        channels: See there.
        title: Of the progress bar; None: no bar.

    Raises:
        ValueError: If ``size`` is None and two pictures differ in size; which.
    """
    images = torch.empty(0, channels, size or 0, size or 0, dtype=torch.uint8)
    kept: list[int] = []
    faults: list[str] = []
    position = 0

    def attempt(picture: Picture) -> Tensor | ValueError:
        try:
            return _decode(picture.read, picture.name, size, crop, channels)
        except ValueError as error:
            return error

    # Filters of warnings belong to the process, not to a thread: they are set once, outside the pool.
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        bar(min(count, len(pictures)), title, "image") as progress,
    ):
        warnings.simplefilter("ignore")
        while len(kept) < count and position < len(pictures):
            chunk = pictures[position : position + min(_CHUNK, count - len(kept))]
            for index, (picture, image) in enumerate(zip(chunk, pool.map(attempt, chunk), strict=True), position):
                progress.update()
                if isinstance(image, ValueError):
                    faults.append(str(image))
                    continue
                if not kept:
                    images = torch.empty(min(count, len(pictures)), *image.shape, dtype=torch.uint8)
                elif image.shape != images.shape[1:]:
                    (h, w), (h0, w0) = image.shape[1:], images.shape[2:]
                    raise ValueError(
                        f"{picture.name} has {w}x{h} pixels and {pictures[kept[0]].name} {w0}x{h0}; "
                        "set image_size to bring all to one size."
                    )
                images[len(kept)] = image
                kept.append(index)
            position += len(chunk)
    return Decoded(images[: len(kept)], kept, faults)


def _decode(read: Callable[[], bytes], name: str, size: int | None, crop: Crop, channels: int) -> Tensor:
    """As :func:`decode`; PIL's warnings get out."""
    try:
        content = read()
        if not content:
            raise ValueError("is empty")
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"has {image.width}x{image.height} pixels, more than {_MOST_PIXELS:,}")
            if image.format == "PNG":
                with Image.open(io.BytesIO(content), formats=["PNG"]) as again:
                    again.verify()  # the checksums, which load() does not look at
            image.load()
            pixels = np.asarray(_resize(_convert(ImageOps.exif_transpose(image), channels), size, crop))
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image, or damaged at its beginning") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {_MOST_PIXELS:,} pixels") from None
    except ValueError as error:
        raise ValueError(f"{name} {_one_line(error)}") from None
    except Exception as error:  # whatever PIL stumbles on in foreign bytes
        raise ValueError(f"{name} is damaged ({_one_line(error)})") from None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1).copy())


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """To grey or RGB of 8 bits."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F":
        raise ValueError("has floating-point pixels, whose scale is unknown")
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("has 32-bit pixels, whose scale is unknown")
        image = Image.fromarray((levels >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _resize(image: Image.Image, size: int | None, crop: Crop) -> Image.Image:
    if size is None or image.size == (size, size):
        return image
    if crop == "whole":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    # What torchvision's Resize(size) and CenterCrop(size) keep, without computing what they throw away.
    shorter = min(image.size)
    sides = [int(size * side / shorter) for side in image.size]
    starts = [round((side - size) / 2) for side in sides]
    (left, right), (top, bottom) = (
        (start * old / new, (start + size) * old / new)
        for start, old, new in zip(starts, image.size, sides, strict=True)
    )
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
