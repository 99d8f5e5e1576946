"""Picture files become uint8 tensors of one size."""

import io
from collections.abc import Callable
from typing import Literal

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

Crop = Literal["whole", "center"]


def decode(read: Callable[[], bytes], name: str, size: int, crop: Crop, channels: int) -> Tensor:
    """A picture as uint8 (C, size, size), resized by antialiased bilinear interpolation.

    Args:
        read: Returns the file's bytes.
        name: The file's, for messages.
        size: Side in pixels.
        crop: ``whole`` squeezes the whole picture into the square; ``center`` resizes its shorter side to ``size`` and
            keeps the middle.
        channels: 1 or 3.

    Raises:
        ValueError: If it is damaged or no picture.
    """
    try:
        with Image.open(io.BytesIO(read())) as file:
            picture = file.convert("RGB" if channels == 3 else "L")
    except Exception as error:  # what PIL raises for damaged files depends on their format
        raise ValueError(f"{name} is damaged or no picture ({error}).") from None
    if crop == "whole":
        picture = functional.resize(picture, [size, size])
    else:
        picture = functional.center_crop(functional.resize(picture, [size]), [size])
    image: Tensor = functional.pil_to_tensor(picture)
    return image
