"""Files that are there whole or not at all. (The library for it, atomicwrites, is no longer kept.)"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside this one to write a file to, which then takes its name; its folder must exist.

    Whoever reads, and whoever looks after a crash or on a full disk, sees the file of before or the whole new one.

    Raises:
        OSError: If it cannot be written; nothing is left beside the file of before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
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
    """Writes text in one piece, UTF-8; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
