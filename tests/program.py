"""train.py's parsers for tests of commands, without what they lead to."""

import sys
import warnings
from typing import Any

import pytest
from jsonargparse import Namespace

from thermoebm.cli.train import CLI


class Parsed(Exception):
    """Raised in place of what a program does after it has parsed its arguments."""


class Program(CLI):
    """train.py's parsers, and nothing that comes after them."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        self.config = Namespace(subcommand="fit", fit=Namespace(seed_everything=False))

    def instantiate_classes(self) -> None:
        """Does nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Does nothing."""


def parsers() -> Program:
    """The program as it is before any command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py"])
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)
        return Program([])
