"""Pixels in every unit: bit depths, transparent colours, white that is zero, palettes; and pictures that have none."""

import numpy as np
import PIL
import pytest
from PIL import Image

from tests.data.own_images import PICTURE, decoded, encoded, noise
from tests.data.raw_images import chunk, packed, png, tiff, transparent
from thermoebm.data.decode import decode

LEVELS = {
    depth: np.arange(2**depth)[None]
    if depth <= 8
    else np.array([[0, 1, 255, 256, 0x1200, 0x1201, 0x8000, 2**depth - 1]]) % 2**depth
    for depth in (1, 2, 4, 8, 12, 16)
}


def shown(levels: np.ndarray, depth: int) -> np.ndarray:
    """In 8 bits: the highest level is 255, in between as many steps; of more than 8 bits the highest 8."""
    return levels * 255 // (2**depth - 1) if depth <= 8 else levels >> depth - 8


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_grey_is_that_of_the_file(depth, channels):
    levels = LEVELS[depth]
    for key in levels[0, :: max(levels.size // 8, 1)]:
        picture = decoded(png(levels, depth, transparent(key)), channels=channels)
        expected = np.where(levels == key, 255, shown(levels, depth))
        assert (picture == expected[..., None]).all(), key
    assert (decoded(png(levels, depth))[..., 0] == shown(levels, depth)).all()


def test_of_the_transparent_colour_only_the_bits_of_a_pixel_count():
    """As the PNG standard has it."""
    assert decoded(png(LEVELS[4], 4, transparent(0xF8)))[0, 7:10, 0].tolist() == [0x77, 255, 0x99]
    colours = np.array([[[1, 2, 3], [1, 2, 4]]])
    assert decoded(png(colours, 8, transparent(0x101, 0x202, 3), colour=2)).tolist() == [[[255] * 3, [1, 2, 4]]]


def test_cielab_becomes_colour_and_grey():
    """Within its rounding: black, grey and white have no colour, and a red one has its luma."""
    picture = np.array([[[0, 0, 0], [119, 119, 119], [255, 255, 255], [200, 60, 50]]], dtype=np.uint8)
    content = encoded(Image.fromarray(picture).convert("LAB"), "TIFF")
    assert np.abs(decoded(content).astype(int) - picture).max() <= 3
    assert np.abs(decoded(content, channels=1)[..., 0] - picture @ [0.299, 0.587, 0.114]).max() <= 3


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_is_that_of_the_file(channels):
    """In 16 bits the pixels differ from it in their low bytes only, or have its number in their high ones."""
    for unit in (1, 256):
        colours = np.array([[[1, 2, 3], [1, 2, 4], [0, 2, 3]]]) * unit
        picture = decoded(
            png(colours, 8 if unit == 1 else 16, transparent(*colours[0, 0]), colour=2), channels=channels
        )
        assert (picture[0, 0] == 255).all()
        assert (picture[0, 1:] < 10).all()
    colours = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1234, 0x5678, 0x9ABD], [0x12, 0x12, 0x12], [0x1200] * 3]])
    picture = decoded(png(colours, 16, transparent(0x1234, 0x5678, 0x9ABC), colour=2))
    assert picture.tolist() == [[[255] * 3, [0x12, 0x56, 0x9A], [0] * 3, [0x12] * 3]]
    assert decoded(png(colours, 16, transparent(0x12, 0x12, 0x12), colour=2))[0, 2:, 0].tolist() == [255, 0x12]
    one = colours[:, :1]
    assert (decoded(png(one, 16, transparent(*one[0, 0]), colour=2, interlaced=True)) == 255).all()
    assert (decoded(png(one, 16, transparent(1, 2, 3), colour=2, interlaced=True)) == [[[0x12, 0x56, 0x9A]]]).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_of_a_png_with_a_transparency_for_each_colour(depth):
    levels = LEVELS[depth]
    palette = noise(1, levels.size)[0]
    alpha = np.linspace(0, 255, levels.size).astype(np.uint8)
    content = png(levels, depth, chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", alpha.tobytes()), colour=3)
    expected = 255 - (255.0 - palette) * alpha[:, None] / 255
    assert np.abs(decoded(content)[0] - expected).max() <= 1


def test_sixteen_bits_stand_upright():
    levels = np.array([[0x1000, 0x2000, 0x3000]])
    exif = Image.Exif()
    exif[0x0112] = 6
    with_exif = chunk(b"eXIf", exif.tobytes()[6:])
    expected = np.array([[0x10], [255], [0x30]])
    assert (decoded(png(levels, 16, transparent(0x2000), with_exif))[..., 0] == expected).all()
    expected[1] = 0x20
    assert (decoded(png(levels, 16, with_exif))[..., 0] == expected).all()
    assert (decoded(tiff(levels, 16, t274=[6]))[..., 0] == expected).all()


@pytest.mark.parametrize(
    ("depth", "photometric"), [*((depth, 0) for depth in (1, 2, 4, 8, 16)), *((d, 1) for d in LEVELS)]
)
def test_greys_of_a_tiff(depth, photometric):
    """Zero is white (photometric interpretation 0) or black (1)."""
    levels = LEVELS[depth]
    stored = levels if photometric else 2**depth - 1 - levels
    assert (decoded(tiff(stored, depth, photometric))[..., 0] == shown(levels, depth)).all()
    if depth != 12:
        assert (decoded(tiff(stored, depth, photometric, deflated=True))[..., 0] == shown(levels, depth)).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_in_sixteen_bits_however_it_is_packed(compression):
    stored = np.array([[0, 4095, 32768, 65535]], dtype=np.uint16)
    content = encoded(stored, "TIFF", tiffinfo={262: 0}, compression=compression)
    assert decoded(content, channels=1)[..., 0].tolist() == [[255, 240, 127, 0]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("unit", [257, 256, 1])
def test_palettes_of_a_tiff_in_sixteen_bits_or_in_eight(depth, unit):
    """The format has 16 bits; some programs write 8. All reds come first, then all greens, then all blues."""
    palette = noise(1, 2**depth)[0]
    content = tiff(LEVELS[depth], depth, 3, t320=(palette.T.astype(int) * unit).ravel().tolist())
    assert (decoded(content)[0] == palette).all()


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 does not read it, which is said")
def test_a_grey_tiff_that_is_multiplied_by_its_transparency():
    """Shown on white: what is stored + 255 (1 - α)."""
    stored = np.array([[[0, 0], [50, 100], [200, 255]]])
    for channels in (1, 3):
        picture = decoded(tiff(stored, 8, t338=[1]), channels=channels).astype(int)
        assert np.abs(picture[0, :, 0] - [255, 205, 200]).max() <= 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(np.array([[128, 255, 0, 127]]), 8, t339=[2]), "it has signed pixels, whose scale is unknown"),
        (tiff(np.array([[5, 65535]]), 16, t339=[2]), "it has signed pixels, whose scale is unknown"),
        (
            tiff(np.array([[0]]), 16, t339=[3]),
            "it is not an image that can be read here, or is damaged at its beginning",
        ),
        (
            b"\0\0\0\x24ftypheic" + bytes(40),
            "it is a HEIC picture, which cannot be read here; convert it to PNG or JPEG",
        ),
        (
            b"\0\0\0\x24ftypavif" + bytes(40),
            "it is an AVIF picture, which cannot be read here; convert it to PNG or JPEG",
        ),
        (b"8BPS\0\1" + bytes(40), "it is a Photoshop file, which cannot be read here; convert it to PNG or JPEG"),
        (
            encoded(noise(4, 4), "BMP").replace(bytes([24, 0, 0, 0, 0, 0]), bytes([24, 0, 4, 0, 0, 0]), 1),
            "it is not an image that can be read here, or is damaged at its beginning "
            "(Unsupported BMP compression (4))",
        ),
    ],
    ids=["signed 8 bits", "signed 16 bits", "half floats", "HEIC", "AVIF", "Photoshop", "BMP with JPEG"],
)
def test_what_cannot_be_read_here_is_not_called_damaged(content, said):
    with pytest.raises(ValueError, match=r"^it ") as caught:
        decoded(content)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), r"^it cannot be read .Permission denied.$"),
        (MemoryError(), "^it takes more memory than there is$"),
        (OSError("image file is truncated"), r"^it is damaged .image file is truncated.$"),
    ],
)
def test_what_the_system_refuses_is_not_called_damaged(error, said):
    def read() -> bytes:
        raise error

    with pytest.raises(ValueError, match=said):
        decode(read, "it", None, "whole", 3)


@pytest.fixture
def most(monkeypatch) -> list[int]:
    """The numbers of pixels that resizing has made, in its first step (the width) and in its second."""
    pixels = []
    resize = Image.Image.resize

    def counting(image, size, *args, **options):
        pixels.extend([size[0] * image.height, size[0] * size[1]])
        return resize(image, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", counting)
    return pixels


@pytest.mark.parametrize("upright", [False, True])
def test_a_long_picture_takes_no_gigabytes_to_crop(most, upright):
    """Four pixels by 40,000, of which the middle would be a part of 128 by 1,280,000: all four corners meet in it."""
    corners = np.array([[90, 30], [200, 140]], dtype=np.uint8)
    stored, expected = (corners.repeat(h // 2, axis=0).repeat(w // 2, axis=1) for h, w in ((4, 40_000), (128, 128)))
    if upright:
        stored, expected = stored.T, expected.T
    apart = np.abs(decoded(encoded(stored), 128, "center", 1)[..., 0].astype(int) - expected) > 1
    for axis in (0, 1):  # between the two pixels' middles, 32 apart, one colour becomes the other
        apart = np.delete(apart, np.s_[48:80], axis=axis)
    assert not apart.any()
    assert max(most) <= 100_000_000


def test_a_high_picture_takes_no_gigabytes_to_squeeze(most):
    """PIL changes the width first, to 128 by 1,000,000."""
    stored = np.repeat(np.array([30, 220], dtype=np.uint8), 500_000)[:, None]
    picture = decoded(encoded(stored), 128, channels=1)
    assert (picture[:63] == 30).all()
    assert (picture[65:] == 220).all()
    assert max(most) <= 100_000_000


def test_several_photographs_in_one_file_are_checked_as_one_is():
    """MPO, as cameras write it: a marker that does not exist breaks the first."""
    frames = [Image.fromarray(noise(64, 64)) for _ in range(2)]
    content = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decoded(content).shape == (64, 64, 3)
    place = content.index(b"\xff\xda\0\x0c") + 16
    with pytest.raises(ValueError, match="there is no marker 02"):
        decoded(content[:place] + b"\xff\x02" + content[place + 2 :])


def test_the_pictures_of_these_tests_are_what_they_should_be():
    assert packed(np.array([[1, 2, 3]]), 4) == [b"\x12\x30"]
    assert decoded(PICTURE).shape == (20, 20, 3)
