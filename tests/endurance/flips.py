"""Checkpoints whose bytes changed on the disk: each is refused in a sentence, or loads to the very same contents."""

import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.endurance.run import same, train
from thermoebm.runs import checkpoints

_BLOCK = 4096  # bytes, of a disk


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    run = train(folder / "runs")
    last, previous = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "previous"))
    whole, older = last.read_bytes(), previous.read_bytes()
    content = checkpoints.load_checkpoint(last)
    rng = random.Random(0)
    between = _between_records(last)

    def block(data: bytearray, filling: Callable[[int, int], bytes]) -> None:
        start = rng.randrange(len(data) // _BLOCK) * _BLOCK
        data[start : start + _BLOCK] = filling(start, len(data[start : start + _BLOCK]))

    def flip(data: bytearray, byte: int) -> None:
        data[byte] ^= 1 << rng.randrange(8)

    harms: dict[str, tuple[int, Callable[[bytearray], None]]] = {
        "a bit of a checkpoint flipped": (5000, lambda data: flip(data, rng.randrange(len(data)))),
        "a bit between its records flipped": (5000, lambda data: flip(data, rng.choice(between))),
        "checkpoint cut off": (500, lambda data: data.__delitem__(slice(rng.randrange(len(data)), None))),
        "block of it zero": (500, lambda data: block(data, lambda _, size: bytes(size))),
        "block of it of the epoch before": (500, lambda data: block(data, lambda at, size: older[at : at + size])),
    }
    path = folder / "harmed.ckpt"
    for what, (tries, harm) in harms.items():
        for _ in range(min(tries, 20) if short else tries):
            harm(data := bytearray(whole))
            path.write_bytes(data)
            try:
                held = same(checkpoints.load_checkpoint(path), content)
            except ValueError as error:
                held = str(error).startswith(f"{path} ") and "\n" not in str(error)
            yield what, held


def _between_records(path: Path) -> list[int]:
    """The places of all bytes of an archive that are no record's contents."""
    data, places = path.read_bytes(), set(range(path.stat().st_size))
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            start = entry.header_offset + 30 + sum(struct.unpack_from("<HH", data, entry.header_offset + 26))
            places -= {*range(start, start + entry.file_size)}
    return sorted(places)
