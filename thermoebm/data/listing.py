"""Lists the pictures in a folder or a zip."""

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from thermoebm.data.decode import Picture, UnfitError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_MOST_BYTES = 2**28


class Found(NamedTuple):
    """A file below a folder: its path relative to the folder, its size and its modification time."""

    path: PurePosixPath
    size: int
    changed: int


def is_picture(path: PurePosixPath) -> bool:
    """Whether the name is that of a picture, neither hidden nor one of the files that macOS adds to a zip."""
    hidden = any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def pictures_below(folder: Path) -> list[Found]:
    """The pictures in a folder and all folders below it, sorted. A folder reached twice through links is listed once.

    Raises:
        ValueError: If a folder cannot be read.
    """
    found: list[Found] = []
    seen = set()

    def visit(here: Path, path: PurePosixPath) -> None:
        identity = (info := here.stat()).st_dev, info.st_ino
        if identity in seen:
            return
        seen.add(identity)
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                try:
                    status = entry.stat()
                except OSError:  # a broken or circular link: listed, so that it is reported as unreadable
                    status = entry.stat(follow_symlinks=False)
                below = path / entry.name
                if stat.S_ISDIR(status.st_mode):
                    visit(here / entry.name, below)
                elif is_picture(below) and not stat.S_ISFIFO(status.st_mode):  # reading a pipe would block
                    found.append(Found(below, status.st_size, status.st_mtime_ns))

    try:
        visit(folder, PurePosixPath())
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be read ({error.strerror}).") from None
    return sorted(found)


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens an unencrypted zip.

    Raises:
        ValueError: If the file is not a zip, or is damaged or encrypted.
    """
    try:
        opened = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises many types on damaged data
        raise ValueError(f"{path} is not a zip file, or damaged or incomplete ({error}); get it again.") from None
    with opened:
        if any(member.flag_bits & 1 for member in opened.infolist()):
            raise ValueError(f"{path} is encrypted; extract it and give the folder.")
        # A damaged length makes one directory entry absorb those after it.
        if any(b"PK\1\2" in member.extra + member.comment for member in opened.infolist()):
            raise ValueError(f"{path} is damaged (its directory is); get it again.")
        yield opened


def check_names(path: Path, opened: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Compares the members' names in the zip's directory with those in front of their contents.

    Otherwise a member with a damaged name would be taken for a file to ignore.

    Raises:
        ValueError: If they differ.
    """
    for member in members:
        try:
            opened.open(member).close()
        except Exception as error:
            told = printable(" ".join(str(error).split()))
            raise ValueError(f"{path} is damaged ({told}); get it again.") from None


@contextmanager
def pictures_in(root: Path) -> Iterator[dict[PurePosixPath, Picture]]:
    """The pictures of a folder or a zip, sorted and keyed by their path in it; read them within the context.

    Raises:
        ValueError: If there are no pictures, or the folder or zip cannot be read.
    """
    if root.is_dir():
        files = ((found.path, root / found.path) for found in pictures_below(root))
        yield _some(root, {path: Picture(printable(str(file)), partial(_read_file, file)) for path, file in files})
        return
    with open_zip(root) as opened:
        members = {
            path: Picture(printable(f"{path} in {root}"), partial(_read_member, opened, member))
            for member in opened.infolist()
            if not member.is_dir() and is_picture(path := PurePosixPath(member.filename.replace("\\", "/")))
        }
        # Pictures are checked when they are read.
        check_names(root, opened, [m for m in opened.infolist() if not is_picture(PurePosixPath(m.filename))])
        yield _some(root, dict(sorted(members.items())))


def _some(root: Path, found: dict[PurePosixPath, Picture]) -> dict[PurePosixPath, Picture]:
    if not found:
        raise ValueError(f"{root} has no pictures in it ({', '.join(SUFFIXES)}).")
    return found


def printable(name: str) -> str:
    """The name as one line for any terminal: unprintable characters are replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _read_file(path: Path) -> bytes:
    _check_size(path.stat().st_size)
    return path.read_bytes()


def _read_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpacks no more than the size that the zip declares, and verifies the checksum."""
    _check_size(member.file_size)
    return opened.read(member)


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise UnfitError(f"takes {size:,} bytes, more than {_MOST_BYTES:,}")
