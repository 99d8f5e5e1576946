"""A short run, what it left, and comparisons of it."""

import contextlib
import functools
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.cli.test_train import SHORT, cli

#: Small networks and few steps: what is tried is the files.
TINY = [
    *SHORT,
    *("--model.energy.hidden_dim", 16, "--model.generator.features", 4, "--model.average_decay", 0.9),
    *("--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 0, "--trainer.callbacks", "null"),
]


def train(runs: Path) -> Path:
    """The directory of a run of two epochs, with last.ckpt and previous.ckpt: a copy of one that is trained once."""
    return Path(shutil.copytree(Path(_trained().name) / "digits" / "0", runs / "digits" / "0"))


@functools.cache
def _trained() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="endurance-")  # until the program ends
    cli("fit", *TINY, "--runs", folder.name, "--trainer.max_epochs", 2)
    return folder


def attempt(*arguments: Any) -> tuple[int, str]:
    """The exit status of train.py in this process and what it wrote to stderr; an exception goes through."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            cli(*arguments)
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def same(one: Any, other: Any) -> bool:
    """Whether two contents of checkpoints are equal: types, names in their order, every bit of tensors and floats."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and bool(torch.equal(*(t.contiguous().view(-1).view(torch.uint8) for t in (one, other))))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)
