"""Files that a data set needs: there, or downloaded whole, or one sentence that says where to get them."""

import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from thermoebm.runtime.cache import one_at_a_time

# Seconds without a byte after which a server is given up; sockets by themselves would wait for ever.
_PATIENCE = 30


def obtain(title: str, root: Path, files: Mapping[Path, str], fetch: Callable[[Path], object] | None) -> None:
    """Makes sure that files are there, and downloads those that are absent.

    A download goes to a temporary folder, and each file is moved from there in one piece: nobody takes half a file for
    a whole one, and an attempt that failed leaves nothing in the way of the next. Of several processes one downloads.

    Args:
        title: The data set's name.
        root: The folder below which the files belong.
        files: What to do by hand for each file, in words.
        fetch: Downloads them below a folder laid out like ``root``; None: downloading is not allowed.

    Raises:
        ValueError: If a file is absent and stays so.
    """
    absent = [path for path in files if not path.is_file()]
    if not absent:
        return
    if fetch is None:
        why = "downloading is off"
    else:
        with one_at_a_time(root):  # where another process may have downloaded them meanwhile
            why = _failure(root, [path for path in absent if not path.is_file()], fetch)
    if why:
        raise ValueError(f"{title}: {absent[0]} is absent and {why}; {files[absent[0]]}.")


def _failure(root: Path, absent: list[Path], fetch: Callable[[Path], object]) -> str:
    """Downloads what is absent, if anything; says what went wrong, or nothing."""
    if not absent:
        return ""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            with contextlib.redirect_stdout(sys.stderr), _patience():
                fetch(Path(temporary))
            for path in absent:
                path.parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / path.relative_to(root)).replace(path)
    except Exception as error:  # torchvision, urllib, gdown and the archives' modules raise a dozen unrelated kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return f"could not be downloaded ({reason.strip('<>. ')})"
    return ""


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
