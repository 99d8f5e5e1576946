"""Reads what torch.save wrote, after comparing its checksums, which torch.load does not do."""

import contextlib
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch


class Unreadable(ValueError):
    """A file is no whole archive of torch.save; the message says so in the words that follow the file's name."""


def read(path: str | Path) -> Any:
    """The contents of a file that torch.save wrote, on the CPU; only tensors and plain values are unpickled.

    Raises:
        Unreadable: If it cannot be read, a record does not match its checksum, or it holds anything else.
    """
    with _opened(path) as file:  # one file for both, even if another takes its name meanwhile
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise Unreadable("is not a readable checkpoint: it holds more than tensors and plain values") from error
        except (RuntimeError, LookupError, EOFError) as error:
            raise Unreadable(f"is damaged: torch cannot read it ({type(error).__name__})") from error


def verify(path: str | Path) -> None:
    """Compares the checksums of a file that torch.save wrote, without unpickling anything.

    Raises:
        Unreadable: If it cannot be read, or a record does not match its checksum.
    """
    with _opened(path):
        pass


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes]]:
    """The file, after its checksums have been compared."""
    try:
        with Path(path).open("rb") as file:
            _check(file)
            file.seek(0)
            yield file
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or type(error).__name__})") from error


def _check(file: IO[bytes]) -> None:
    """Compares the CRC-32 of every record with its contents.

    Every change of up to 32 neighbouring bits changes the CRC-32 of its record; any other goes unnoticed with
    probability 2⁻³². What lies between records has no checksum: a record that is not listed as torch.save lists it is
    refused too, for torch.load takes one with the mark of a folder as it finds the memory. The format of torch before
    1.6 has no checksums and is refused. The first record that does not match is named.
    """
    record = ""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                record = entry.filename.partition("/")[2]
                if entry.external_attr or entry.internal_attr or entry.compress_type != zipfile.ZIP_STORED:
                    raise Unreadable(f"is damaged: its record {record} is not listed as torch.save lists it")
                with archive.open(entry) as content:
                    while content.read(1 << 20):
                        pass
    except (OSError, Unreadable):
        raise
    except Exception as error:  # of zipfile, and whatever a damaged list of records leads to
        if record:
            raise Unreadable(f"is damaged: its record {record} does not match its checksum") from error
        raise Unreadable("is not a readable checkpoint: it is cut off or no archive of torch.save") from error
