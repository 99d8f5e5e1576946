"""The argument parser of all programs with plain options."""

import argparse
from typing import NoReturn

from thermoebm.runtime.terminal import fail


class Parser(argparse.ArgumentParser):
    """Reports errors in one sentence, without the usage text."""

    def error(self, message: str) -> NoReturn:
        fail(f"{message}; --help lists every option")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def add_download(parser: argparse.ArgumentParser) -> None:
    """Adds ``--download`` and ``--no_download``; without either, ``download`` is None."""
    only = parser.add_mutually_exclusive_group()
    absent = "what is absent, the data set or weights of the extractor (default: as the run's config says)"
    only.add_argument("--download", action="store_true", default=None, help=f"download {absent}")
    only.add_argument("--no_download", dest="download", action="store_false", default=None, help="do not")
