"""What is dear to compute and kept on disk: files that carry their own checksum, written in one piece or not at all."""

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

# Seconds for which another process is waited for; then both make the same, and neither harms the other.
_PATIENCE = 3600


def folder() -> Path:
    """$THERMOEBM_CACHE, or ~/.cache/thermoebm."""
    return Path(os.environ.get("THERMOEBM_CACHE") or "~/.cache/thermoebm").expanduser()


def digest(*parts: Tensor | str) -> str:
    """A name for contents: SHA-256 of texts and of tensors with their types and shapes, in order, as 20 letters."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            total.update(f"{part.dtype} {tuple(part.shape)} ".encode())
            total.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            total.update(f"{len(part)} {part} ".encode())
    return total.hexdigest()[:20]


def cached(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds; if it is absent or damaged, what ``make`` returns, which is then written there.

    Of several processes that want it at once, one makes it and the others wait. A folder that cannot be written costs
    the cache and not the result.

    Args:
        path: Absolute, or relative to :func:`folder`.
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
    """Waits while another process of this machine does the same for this path.

    A lock goes with its process, however that ends. Where none can be had (no file can be written, the file system or
    the system has no locks), or another process takes longer than an hour, this one goes on: what is made is moved to
    its place in one piece, so that a lock saves work and nothing depends on it.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=10).hexdigest()
            lock = folder() / "locks" / name
            lock.parent.mkdir(parents=True, exist_ok=True)
            _acquire(held.enter_context(lock.open("wb")))
        yield


def _acquire(file: BinaryIO) -> None:
    """Locks the file until it is closed."""
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
    """What a file holds, or None if its checksum is not that of the rest."""
    with path.open("rb") as file:
        checksum, payload = file.read(32), file.read()  # apart: a slice would be a second copy of gigabytes
    if hashlib.sha256(payload).digest() != checksum:
        return None
    loaded: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return loaded
