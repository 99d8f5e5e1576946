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
