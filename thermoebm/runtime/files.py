"""Atomic file writes (the library for this, atomicwrites, is no longer maintained), and paths that are no text."""

import contextlib
import os
import re
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


def as_text(path: str) -> str:
    """A path with ``\\xHH`` for each byte that is not UTF-8, as a config and a terminal can show it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def from_text(path: str | Path) -> Path:
    """The path that :func:`as_text` wrote so; one that exists as it is written stays."""
    written = os.fsencode(path)
    if b"\\x" in written and not os.path.lexists(written):
        written = re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), written)
    return Path(os.fsdecode(written))
