"""Atomic file writes (the library for this, atomicwrites, is no longer maintained), and paths that are no text."""

import contextlib
import os
import re
import secrets
import shutil
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
        take_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def take_place(file: Path, path: Path) -> None:
    """Renames a file to a path of the same folder, after all of it is on the disk: a power cut leaves one or the other.

    Raises:
        OSError: If that cannot be; what is at the path stays.
    """
    with file.open("rb+") as whole:
        os.fsync(whole.fileno())
    file.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def keep_as(path: Path, other: Path) -> None:
    """Gives a file another name too, atomically; where a file system has no hard links, a copy has it.

    Raises:
        OSError: If that cannot be; what had the name before keeps it.
    """
    if other.exists() and other.samefile(path):  # renaming one name of a file to another does nothing
        return
    with replacing(other) as temporary:
        try:
            temporary.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, temporary)


def as_text(path: str) -> str:
    """A path with ``\\xHH`` for each byte that is not UTF-8, as a config and a terminal can show it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def from_text(path: str | Path) -> Path:
    """The path that :func:`as_text` wrote so; one that exists as it is written stays."""
    written = os.fsencode(path)
    if b"\\x" in written and not os.path.lexists(written):
        written = re.sub(rb"\\x([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), written)
    return Path(os.fsdecode(written))
