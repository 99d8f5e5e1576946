"""Atomic file writes. (The library for this, atomicwrites, is no longer maintained.)"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder, which must exist; the file written there then replaces this path.

    The replacement is atomic: a reader, also after a crash or on a full disk, sees either the previous file or the
    complete new one.

    Raises:
        OSError: If the file cannot be written; the previous file stays and the temporary one is removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
