"""PNG and TIFF files and odd zips, written from the formats' descriptions: PIL writes less than it reads."""

import struct
import zlib
from pathlib import Path

import numpy as np


def packed(levels: np.ndarray, depth: int) -> list[bytes]:
    """Rows (H, W) of levels as bytes, most significant bit first, each row filled up."""
    bits = levels[..., None] >> np.arange(depth)[::-1] & 1
    return [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def transparent(*values: int) -> bytes:
    """The chunk that makes a colour of a PNG transparent."""
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def png(levels: np.ndarray, depth: int, *more: bytes, colour: int = 0, interlaced: bool = False) -> bytes:
    """Levels (H, W) of grey or a palette, or (H, W, 3) for colour type 2; interlaced only of one pixel."""
    rows = packed(levels.reshape(len(levels), -1), depth)
    head = struct.pack(">IIBBBBB", levels.shape[1], len(levels), depth, colour, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(levels: np.ndarray, depth: int, photometric: int = 1, deflated: bool = False, **more: list[int]) -> bytes:
    """Levels (H, W) or (H, W, C), unsigned as two's complement has them.

    ``more`` are other tags, of 16-bit values: ``t339=[2]`` for signed samples.
    """
    rows = packed(levels.reshape(len(levels), -1), depth)
    pixels = levels.astype("<u2").tobytes() if depth == 16 else b"".join(rows)
    pixels = zlib.compress(pixels) if deflated else pixels
    channels = 1 if levels.ndim == 2 else levels.shape[2]
    tags = {256: [levels.shape[1]], 257: [len(levels)], 258: [depth] * channels, 259: [8 if deflated else 1]}
    tags |= {262: [photometric], 273: [0], 277: [channels], 278: [len(levels)], 279: [len(pixels)]}
    tags |= {int(name[1:]): values for name, values in more.items()}
    end = 8 + 2 + 12 * len(tags) + 4
    table, behind = b"", b""
    for tag, values in sorted(tags.items()):
        long = tag in (273, 279)
        content = struct.pack(f"<{len(values)}{'I' if long else 'H'}", *values)
        if tag == 273:
            content = b"here"
        elif len(content) > 4:
            behind += content + b"\0" * (-len(content) % 4)
            content = struct.pack("<I", end + len(behind) - len(content) - (-len(content) % 4))
        table += struct.pack("<HHI", tag, 4 if long else 3, len(values)) + content.ljust(4, b"\0")
    table = table.replace(b"here", struct.pack("<I", end + len(behind)))
    head = b"II" + struct.pack("<HIH", 42, 8, len(tags))
    return head + table + bytes(4) + behind + pixels


def repacked(path: Path, name: str, method: int) -> Path:
    """The zip, of which a member is said to be packed by another method, before its content and in the directory."""
    content = bytearray(path.read_bytes())
    for mark, place, head in ((b"PK\3\4", 8, 30), (b"PK\1\2", 10, 46)):
        at = content.index(mark)
        while content[at + head : at + head + len(name)] != name.encode():
            at = content.index(mark, at + 4)
        struct.pack_into("<H", content, at + place, method)
    path.write_bytes(content)
    return path
