"""What is dear to compute and kept on disk: files that carry their own checksum, written in one piece or not at all."""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


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

    A folder that cannot be written costs the cache and not the result.

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
    made = make()
    try:
        _write(path, made)
    except OSError as error:
        print(f"warning: {path} cannot be written ({error.strerror}): nothing is kept.", file=sys.stderr)
    return made


def _write(path: Path, content: dict[str, Any]) -> None:
    """Under a temporary name first: another process sees the whole file or none."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any] | None:
    """What a file holds, or None if its checksum is not that of the rest."""
    with path.open("rb") as file:
        checksum, payload = file.read(32), file.read()  # apart: a slice would be a second copy of gigabytes
    if hashlib.sha256(payload).digest() != checksum:
        return None
    loaded: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return loaded
