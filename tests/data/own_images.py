"""Pictures and arrays of which all is known, written for tests to read."""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from thermoebm.data.decode import decode

DRAW = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) that no flip, no transposition and no other order of channels leaves as it is."""
    return DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Gradients: red to the right, green downwards, little blue."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, np.full(x.shape, 30)], axis=-1).astype(np.uint8)


def encoded(picture: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(buffer, form, **options)
    return buffer.getvalue()


def ppm(picture: np.ndarray) -> bytes:
    """By hand, without any library."""
    return b"P6 %d %d 255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes()


def decoded(content: bytes, size=None, crop="whole", channels=3) -> np.ndarray:
    """(H, W, C)."""
    return decode(lambda: content, "it", size, crop, channels).permute(1, 2, 0).numpy()


def write(root: Path, files: dict[str, bytes], zipped: bool = False) -> Path:
    """A folder of these files, or a zip of them."""
    if zipped:
        root = root.with_name(root.name + ".zip")
        with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return root
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def plain(value: int, side: int = 4) -> bytes:
    """A PNG that is filled with one number."""
    return encoded(np.full((side, side, 3), value, dtype=np.uint8))


def numbered(names: list[str]) -> dict[str, bytes]:
    return {name: plain(value) for value, name in enumerate(names)}


def values(images: torch.Tensor) -> list[int]:
    """The numbers that pictures by :func:`plain` are filled with."""
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def resized_by_torch(picture: np.ndarray, height: int, width: int) -> torch.Tensor:
    """(C, height, width), float."""
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].double()
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)[0]


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def save(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def drawn(*shape: int, high: int = 256) -> np.ndarray:
    return DRAW.integers(0, high, shape, dtype=np.uint8)


PICTURE = encoded(noise(20, 20))
GOOD = drawn(6, 8, 8, 3)
