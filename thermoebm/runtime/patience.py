"""Writing that waits while a disk is full, read-only or not there, and goes on once it can."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from thermoebm.runtime import signals
from thermoebm.runtime.terminal import reason, say
from thermoebm.runtime.units import duration

T = TypeVar("T")

#: What somebody may mend: no room, no right to write, a folder or a device that is away.
MENDABLE = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EIO", "ENODEV", "ENXIO"),
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)  # Windows has not all of them
}
_PAUSE = 1.0  # seconds between tries
_longest = 0.0


@contextlib.contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Within it :func:`patiently` tries for so long, elsewhere once."""
    global _longest
    before, _longest = _longest, seconds
    try:
        yield
    finally:
        _longest = before


def patiently(path: str | os.PathLike[str], write: Callable[[], T]) -> T:
    """What a function returns that writes a file as a whole, called again while an error may be mended.

    The first failure is told, and so is that it was mended. A signal that ends the program ends the waiting.

    Args:
        path: The file, named where the error names none.
        write: The function; what a try that failed has left does not matter to the next.

    Raises:
        OSError: The last one, if it cannot be mended, or was not in time.
    """
    began: float | None = None
    while True:
        try:
            result = write()
        except OSError as error:
            error.filename = error.filename or os.fspath(path)
            first, began = began is None, began or time.monotonic()
            left = began + _longest - time.monotonic()
            if error.errno not in MENDABLE or left <= 0 or signals.asked() > 1:
                raise
            if first:
                told = f"{reason(error)} Training waits for at most {duration(_longest)} until it can be."
                print(f"warning: {told}", file=sys.stderr, flush=True)
            time.sleep(min(_PAUSE, left))
        else:
            if began is not None:
                say(f"{path} can be written after {duration(time.monotonic() - began)}: training goes on")
            return result


class Appended:
    """A file at whose end bytes are put, all of them or none: what a failed try has left is cut off.

    It is open only while it is written to, since a device that was away needs it to be opened anew.

    Args:
        path: The file; what it holds stays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._size = self.path.stat().st_size if self.path.exists() else 0

    def write(self, data: bytes) -> None:
        """Raises an OSError if they cannot be written, after waiting."""
        patiently(self.path, lambda: self._put(data))
        self._size += len(data)

    def _put(self, data: bytes) -> None:
        with self.path.open("r+b" if self._size else "wb", buffering=0) as file:
            file.truncate(self._size)
            file.seek(0, os.SEEK_END)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    def flush(self) -> None:
        """Does nothing: all is written."""

    def close(self) -> None:
        """Does nothing."""
