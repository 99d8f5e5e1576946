"""Lists the pictures in a folder or a zip."""

import copy
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from thermoebm.data.decode import Picture
from thermoebm.data.pixels import UnfitError

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
# Folders, in lower case, in which operating systems and file servers keep thumbnails, deleted files and earlier states.
_SYSTEM = {
    *("__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin"),
    *("recycler", "recycled", "system volume information", "lost+found", "network trash folder", "temporary items"),
}
# Methods of packing that zipfile does not read, at least in some versions of Python.
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 97: "WavPack", 98: "PPMd"}
_MOST_BYTES = 2**28


class Found(NamedTuple):
    """A file below a folder: its path relative to the folder, its size and its modification time."""

    path: PurePosixPath
    size: int
    changed: int


class Listing(NamedTuple):
    """Pictures, sorted and keyed by their path, and how many files and folders are left out, for which reason each."""

    pictures: dict[PurePosixPath, Picture]
    left_out: Counter[str]


def why_not(path: PurePosixPath) -> tuple[PurePosixPath, str] | None:
    """Why a file is no picture: the topmost part of its path that says so, and the reason; None: it is one."""
    for end, part in enumerate(path.parts, 1):
        if part.lower() in _SYSTEM:
            return PurePosixPath(*path.parts[:end]), f"{part}/"
        if part.startswith(".") and part not in (".", ".."):
            return PurePosixPath(*path.parts[:end]), "hidden"
    return None if path.suffix.lower() in SUFFIXES else (path, path.suffix.lower() or "without a suffix")


def pictures_below(folder: Path) -> tuple[list[Found], Counter[str]]:
    """The pictures in a folder and all folders below it, sorted, and how much is left out for which reason.

    A folder reached twice through links is listed once. Hidden and system folders are not entered.

    Raises:
        ValueError: If a folder cannot be read.
    """
    found: list[Found] = []
    left_out: Counter[str] = Counter()
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
                is_folder = stat.S_ISDIR(status.st_mode)
                why = why_not(below / "_.png" if is_folder else below)
                if why:
                    left_out[why[1]] += 1
                elif is_folder:
                    visit(here / entry.name, below)
                elif stat.S_ISFIFO(status.st_mode):  # reading it would block
                    left_out["pipe"] += 1
                else:
                    found.append(Found(below, status.st_size, status.st_mtime_ns))

    try:
        visit(folder, PurePosixPath())
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be read ({error.strerror}).") from None
    return sorted(found), left_out


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


def open_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """Opens a member of a zip for reading.

    Raises:
        UnfitError: If it is packed by a method that cannot be read.
        Exception: If it is damaged, or its name is another in the zip's directory than in front of its content.
    """
    damage: Exception | None = None
    for name in _names(member.orig_filename):
        twin = copy.copy(member)
        twin.orig_filename = name
        try:
            return opened.open(twin)
        except zipfile.BadZipFile as error:
            damage = damage or error
        except NotImplementedError as error:
            method = _METHODS.get(member.compress_type, f"method {member.compress_type} ({error})")
            raise UnfitError(
                f"is packed by {method}, which cannot be read here; unpack the zip or pack it anew"
            ) from None
    assert damage
    raise damage


def _names(name: str) -> Iterator[str]:
    """A member's name, and how else it may be before its content: with other slashes, or as other letters."""
    yield name
    yield name.replace("\\", "/") if "\\" in name else name.replace("/", "\\")
    for written, read in (("utf-8", "cp437"), ("cp437", "utf-8")):
        with suppress(UnicodeError):
            yield name.encode(written).decode(read)


def check_names(path: Path, opened: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Compares the members' names in the zip's directory with those in front of their contents.

    Otherwise a member with a damaged name would be taken for a file to ignore.

    Raises:
        ValueError: If they differ.
    """
    for member in members:
        try:
            open_member(opened, member).close()
        except UnfitError:  # its names agree, and nobody reads it
            pass
        except Exception as error:
            told = printable(" ".join(str(error).split()))
            raise ValueError(f"{path} is damaged ({told}); get it again.") from None


@contextmanager
def pictures_in(root: Path) -> Iterator[Listing]:
    """The pictures of a folder or a zip; read them within the context.

    Raises:
        ValueError: If there are no pictures, or the folder or zip cannot be read.
    """
    if root.is_dir():
        found, left_out = pictures_below(root)
        files = ((each.path, root / each.path) for each in found)
        pictures = {path: Picture(printable(str(file)), partial(_read_file, file)) for path, file in files}
        yield _some(root, Listing(pictures, left_out))
        return
    with open_zip(root) as opened:
        others, pictures, reasons = [], {}, set()
        for member in opened.infolist():
            path = PurePosixPath(member.filename.replace("\\", "/"))
            why = None if member.is_dir() else why_not(path)
            if why or member.is_dir():
                others.append(member)  # pictures are checked when they are read
                reasons.update([why] if why else [])
            else:
                name = printable(f"{path} in {root}")
                pictures[path] = Picture(name, partial(_read_member, opened, member))
        check_names(root, opened, others)
        yield _some(root, Listing(dict(sorted(pictures.items())), Counter(reason for _, reason in reasons)))


def _some(root: Path, found: Listing) -> Listing:
    if not found.pictures:
        others = f"; what is there: {counted(found.left_out)}" if found.left_out else ""
        raise ValueError(f"{root} has no pictures in it ({', '.join(SUFFIXES)}){others}.")
    return found


def counted(reasons: Counter[str]) -> str:
    """The eight most frequent reasons with their numbers, in one line."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{number:,} {printable(reason)}" for reason, number in ordered[:8]]
    return ", ".join(told + ["..."] * (len(reasons) > 8))


def printable(name: str) -> str:
    """The name as one line for any terminal: unprintable characters are replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _read_file(path: Path) -> bytes:
    _check_size(path.stat().st_size)
    return path.read_bytes()


def _read_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpacks no more than the size that the zip declares, and verifies the checksum."""
    _check_size(member.file_size)
    with open_member(opened, member) as file:
        return file.read()


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise UnfitError(f"takes {size:,} bytes, more than {_MOST_BYTES:,}")
