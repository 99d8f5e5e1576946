"""A disk cache for expensive results. Each file carries a checksum and is written atomically."""

import contextlib
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from thermoebm.runtime.files import replacing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Seconds to wait for another process. After that both compute the same result, and neither harms the other.
_PATIENCE = 3600


def folder() -> Path:
    """The folder of the cache: $THERMOEBM_CACHE, or ~/.cache/thermoebm."""
    return Path(os.environ.get("THERMOEBM_CACHE") or "~/.cache/thermoebm").expanduser()


def digest(*parts: Tensor | str) -> str:
    """Cache key: the first 20 hexadecimal digits of the SHA-256 of the parts in order.

    A tensor is hashed with its data type and shape, a text with its length.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            total.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            total.update(f"{len(part)} {part} ".encode())
    return total.hexdigest()[:20]


def cached(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the contents of a cache file; if it is absent or damaged, calls ``make`` and writes the result there.

    If several processes need the file at once, one computes it and the others wait. If the folder cannot be written to,
    the result is returned without being cached, with a warning.

    Args:
        path: Path of the file, absolute or relative to :func:`folder`.
        make: Returns tensors and plain values by name.
    """
    path = folder() / path
    with contextlib.suppress(OSError):
        found = _read(path)
        if found is not None:
            return found
        print(f"warning: {path} is damaged and is made again.", file=sys.stderr)
    with one_at_a_time(path):
        with contextlib.suppress(OSError):
            found = _read(path)  # made by another process meanwhile
            if found is not None:
                return found
        made = make()
        try:
            _write(path, made)
        except OSError as error:
            print(f"warning: {path} cannot be written ({error.strerror}): nothing is kept.", file=sys.stderr)
    return made


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits while another process on this machine holds the lock of this path, then holds it within the block.

    A lock is released when its process ends, for whatever reason. If no lock can be had (no file can be written, or the
    file system or the operating system has no locks), or another process holds it for longer than an hour, the block
    runs without the lock. Correctness does not depend on it, since results are moved into place atomically: the lock
    only saves work.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=10).hexdigest()
            lock = folder() / "locks" / name
            lock.parent.mkdir(parents=True, exist_ok=True)
            _acquire(held.enter_context(lock.open("wb")))
        yield


def _acquire(file: BinaryIO) -> None:
    """Locks the file until it is closed; gives up after ``_PATIENCE`` seconds, or where ``fcntl`` is missing."""
    until = time.monotonic() + _PATIENCE
    while fcntl and time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)


def _read(path: Path) -> dict[str, Any] | None:
    """The contents of a file, or None if they do not match its checksum."""
    with path.open("rb") as file:
        checksum, payload = file.read(32), file.read()  # two reads: a slice would copy gigabytes
    if hashlib.sha256(payload).digest() != checksum:
        return None
    loaded: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return loaded
