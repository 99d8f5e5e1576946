"""Downloads the missing files of a data set atomically, or says in one sentence where to get them."""

import contextlib
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from thermoebm.runtime.cache import one_at_a_time

# Timeout: seconds without a byte after which a download fails. Sockets wait for ever by default.
_PATIENCE = 30


def obtain(title: str, root: Path, files: Mapping[Path, str], fetch: Callable[[Path], object] | None) -> None:
    """Ensures that files exist, downloading those that are absent.

    Files are downloaded to a temporary folder, and each is then moved into place atomically: no file is ever partial,
    and a failed attempt does not obstruct the next. If several processes need the files, one of them downloads.

    Args:
        title: The data set's name.
        root: The folder below which the files belong.
        files: Maps each file to a sentence on how to get it by hand.
        fetch: Downloads the files below a folder laid out like ``root``; None: downloading is not allowed.

    Raises:
        ValueError: If a file is still absent.
    """
    absent = [path for path in files if not path.is_file()]
    if not absent:
        return
    if fetch is None:
        why = "downloading is off (download: true allows it)"
    else:
        with one_at_a_time(root):  # another process may have downloaded them meanwhile
            why = _failure(title, root, [path for path in absent if not path.is_file()], fetch)
    if why:
        raise ValueError(f"{title}: {absent[0]} is absent and {why}; {files[absent[0]]}.")


def _failure(title: str, root: Path, absent: list[Path], fetch: Callable[[Path], object]) -> str:
    """Downloads the absent files, if any; returns what went wrong, or an empty string."""
    if not absent:
        return ""
    print(f"{title}: {absent[0]} is absent and is downloaded, as download: true allows.", file=sys.stderr, flush=True)
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
