"""Decoding: what was written is what is read, in every format, and each fault is a sentence."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.own_images import PICTURE, decoded, encoded, flipped, noise, ppm, resized_by_torch, smooth


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True}), ("PPM", {})],
)
def test_lossless_formats_give_back_every_value(form, options):
    picture = noise(5, 7)
    assert (decoded(encoded(picture, form, **options)) == picture).all()


def test_channels_come_red_green_blue_by_an_encoding_made_by_hand():
    picture = noise(5, 7)
    assert (decoded(ppm(picture)) == picture).all()


def test_jpeg_comes_back_within_its_error():
    """Quality 95 at full colour resolution loses two levels or so of a smooth picture; no channel is another."""
    picture = smooth(24, 40)
    difference = decoded(encoded(picture, "JPEG", quality=95, subsampling=0)).astype(int) - picture
    assert np.abs(difference).max() <= 6
    assert np.abs(difference).mean() < 1.5


def test_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    picture = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (picture == [255, 0, 0]).all()


def test_palettes_and_bilevel_pictures_become_colours():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decoded(encoded(palette)).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decoded(encoded(Image.new("1", (1, 1), 1)), channels=1).tolist() == [[[255]]]


def test_transparent_parts_show_white():
    """c α + 255 (1 - α) for α in 0, 0.4 and 1."""
    colour = np.array([200, 100, 0])
    picture = np.array([[[*colour, 0], [*colour, 102], [*colour, 255]]], dtype=np.uint8)
    expected = [[255 - (255 - colour) * alpha / 255 for alpha in (0, 102, 255)]]
    assert np.abs(decoded(encoded(picture)) - np.array(expected)).max() <= 1
    grey = Image.new("LA", (1, 1), (0, 102))
    assert abs(int(decoded(encoded(grey), channels=1)[0, 0, 0]) - 153) <= 1
    keyed = Image.new("P", (1, 1))
    keyed.putpalette([10, 20, 30])
    assert decoded(encoded(keyed, transparency=0)).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_keep_their_high_byte():
    levels = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    assert decoded(encoded(levels), channels=1)[..., 0].tolist() == [[0, 0, 1, 156, 255]]
    assert decoded(encoded(levels, "TIFF"), channels=3)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 156, 255)]


def test_inks_become_light():
    """(1 - C)(1 - K) and so on."""
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 0, 0], [0, 0, 255, 128]]], dtype=np.uint8)
    expected = (255.0 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    content = encoded(Image.frombytes("CMYK", (4, 1), inks.tobytes()), "TIFF")
    assert np.abs(decoded(content) - expected).max() <= 1


def test_grey_is_luma():
    """0.299 R + 0.587 G + 0.114 B (ITU-R 601)."""
    picture = noise(6, 6)
    grey = decoded(encoded(picture), channels=1)
    assert grey.shape == (6, 6, 1)
    assert np.abs(grey[..., 0] - picture @ [0.299, 0.587, 0.114]).max() <= 1


def test_pictures_stand_upright_in_all_eight_orientations():
    """What EXIF's table says of the stored picture's first row and column, written out with numpy."""
    stored = noise(3, 5)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert (decoded(encoded(stored, exif=exif)) == expected).all(), orientation


@pytest.mark.parametrize("shape", [(50, 31), (31, 50), (9, 9), (16, 40)])
def test_whole_pictures_are_squeezed_as_torch_does(shape):
    picture = noise(*shape)
    expected = resized_by_torch(picture, 16, 16)
    assert (torch.from_numpy(decoded(encoded(picture), 16)).permute(2, 0, 1) - expected).abs().max() <= 1


@pytest.mark.parametrize("shape", [(50, 31), (31, 50), (37, 37), (16, 41), (178, 218)])
def test_center_is_resize_of_the_shorter_side_and_then_the_middle(shape):
    """As torchvision's Resize and CenterCrop say it: the longer side rounded down, the start to the nearest."""
    picture, size = noise(*shape), 16
    height, width = (int(size * side / min(shape)) for side in shape)
    top, left = round((height - size) / 2), round((width - size) / 2)
    expected = resized_by_torch(picture, height, width)[:, top : top + size, left : left + size]
    assert (torch.from_numpy(decoded(encoded(picture), size, "center")).permute(2, 0, 1) - expected).abs().max() <= 1.5


def chunk_end(png: bytes) -> int:
    """Where the checksum of a PNG's pixels is."""
    start = png.index(b"IDAT")
    return start + 4 + struct.unpack(">I", png[start - 4 : start])[0]


PHOTO = encoded(noise(40, 40), "JPEG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"no picture at all", "is not an image"),
        (PICTURE[:-500], "is damaged"),
        (flipped(PICTURE, chunk_end(PICTURE)), "is damaged"),
        (PHOTO[: len(PHOTO) // 2], "is damaged .*truncated"),
        (encoded(Image.new("1", (20_000, 10_000))), "has more than 100,000,000 pixels"),
        (encoded(Image.new("1", (11_000, 10_000))), "has more than 100,000,000 pixels"),
        (encoded(np.ones((2, 2), dtype=np.float32), "TIFF"), "has floating-point pixels"),
        (encoded(np.full((2, 2), 70_000, dtype=np.int32), "TIFF"), "has 32-bit pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    ],
)
def test_what_is_no_picture_is_told_in_a_sentence(content, said):
    with pytest.raises(ValueError, match=f"^it {said}"):
        decoded(content)


@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 100}, {"progressive": True}, {"optimize": True}])
@pytest.mark.parametrize("more", [{}, {"restart_marker_blocks": 3}, {"subsampling": 0, "comment": b"\xff\xda\xff\x01"}])
def test_a_marker_that_does_not_exist_breaks_a_jpeg(options, more):
    """PIL would show grey from there on. Whole pictures pass, of noise and of one colour."""
    for picture in (noise(64, 64), np.full((64, 64, 3), 128, np.uint8)):
        content = encoded(picture, "JPEG", **options, **more)
        assert decoded(content).shape == (64, 64, 3)
        place = content.index(b"\xff\xda\0\x0c") + 16  # in the first scan, behind its header
        broken = content[:place] + b"\xff\x02" + content[place + 2 :]
        with pytest.raises(ValueError, match=r"it is damaged .there is no marker 02 to end its scan"):
            decoded(broken)
