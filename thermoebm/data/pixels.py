"""Brings a picture to 8 bits of grey or RGB, whatever the units of its file: bit depth, transparency, palette."""

import io

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, COLORMAP, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT, TiffImageFile

# The bit depth of a PNG by PIL's name for its layout. Palettes and alpha channels, which are absent here, are in order.
_DEPTH = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "RGB": 8, "I;16B": 16, "RGB;16B": 16}
# Modes that PIL converts to no other than this.
_ON_THE_WAY = {"LAB": "RGB", "La": "LA"}


class UnfitError(ValueError):
    """A picture that is refused for a reason other than damage; the message follows its name in a sentence."""


def eight_bits(image: Image.Image, content: bytes) -> Image.Image:
    """The loaded picture with 8 bits in a channel, and with an alpha channel if a PNG has a transparent colour.

    Args:
        image: As PIL loads it from ``content``.
        content: The file's bytes.

    Raises:
        UnfitError: If the scale of its pixels is unknown.
    """
    if isinstance(image, TiffImageFile):
        image = _tiff(image)
    opaque = None
    if image.format == "PNG" and image.mode in ("1", "L", "RGB", "I;16") and "transparency" in image.info:
        opaque = Image.fromarray(_differs(image, content))
        del image.info["transparency"]
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise UnfitError("has 32-bit pixels, whose scale is unknown")
        image = _with_pixels(image, (levels >> 8).astype(np.uint8))
    if opaque is not None:
        image = image.convert("L") if image.mode == "1" else image
        image.putalpha(opaque)
    return image


def flat(image: Image.Image, channels: int) -> Image.Image:
    """Grey (``channels`` is 1) or RGB (3), with transparent parts on white.

    Raises:
        UnfitError: If the scale of its pixels is unknown.
    """
    if image.mode == "F":
        raise UnfitError("has floating-point pixels, whose scale is unknown")
    if image.mode in _ON_THE_WAY:
        image = image.convert(_ON_THE_WAY[image.mode])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _differs(image: Image.Image, content: bytes) -> np.ndarray:
    """Where a PNG is not of its transparent colour: 255, else 0.

    The colour is in the file's units. PIL's pixels are not: it stretches fewer than 8 bits, and cuts 16 to 8.
    """
    again = Image.open(io.BytesIO(content), formats=["PNG"])
    tile = again.tile[0]
    depth = _DEPTH[str(tile.args)]
    levels = np.asarray(image)
    if image.mode == "RGB" and depth == 16:
        again.tile = [tile._replace(args="RGB;16L")]  # read in the other byte order, the low byte is the high one
        levels = levels.astype(np.uint16) << 8 | np.asarray(again)
    elif image.mode == "L":
        levels = levels // (255 // (2**depth - 1))
    # Only the bits that a pixel has count (PNG, 11.3.2.1). PIL has already made 255 of a single one.
    key = np.asarray(image.info["transparency"]) & 2**depth - 1
    differs = levels != key
    return (differs.any(axis=-1) if image.mode == "RGB" else differs).astype(np.uint8) * 255


def _tiff(image: TiffImageFile) -> Image.Image:
    """What PIL leaves as it is in the file: signs, 12 bits, white that is zero in 16 bits, and 8-bit palettes."""
    tags = image.tag_v2
    bits = tags.get(BITSPERSAMPLE, (1,))[0]
    if 2 in tags.get(SAMPLEFORMAT, ()) and bits < 32:
        raise UnfitError("has signed pixels, whose scale is unknown")
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint16) << 16 - bits
        white_is_zero = tags.get(PHOTOMETRIC_INTERPRETATION) == 0
        return _with_pixels(image, 65535 - levels if white_is_zero else levels)
    palette = tags.get(COLORMAP, ())
    if image.mode in ("P", "PA") and max(palette, default=256) < 256:  # meant as 8 bits, though the format has 16
        image.putpalette(np.reshape(palette, (3, -1)).T.astype(np.uint8).tobytes())
    return image


def _with_pixels(image: Image.Image, pixels: np.ndarray) -> Image.Image:
    """A picture of these pixels that keeps what else is known of it, such as its orientation."""
    made = Image.fromarray(pixels)
    made.info = image.info
    return made
