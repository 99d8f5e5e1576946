"""Run directories and their files. No two runs share a directory, so none overwrites the files of another.

RUNS/NAME/0/config.yaml, metrics.csv, events.out.tfevents.*, checkpoints/last.ckpt and previous.ckpt, samples/..., ...
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor
from torchvision.utils import save_image


def claim(parent: Path) -> Path:
    """Creates and returns PARENT/0, or the first number that is free; safe when many processes ask at once."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:
            continue
        return parent / str(number)
    raise AssertionError("unreachable")


def numbered(parent: Path) -> list[Path]:
    """The directories that :func:`claim` has made there."""
    return [path for path in parent.glob("*") if path.name.isdecimal() and path.is_dir()]


def run_of(ckpt_path: str | None, usable: Callable[[Path], bool] = Path.is_file) -> Path | None:
    """The directory of the run that resuming from a checkpoint continues; None: a new one.

    It is that of a last.ckpt, and of a previous.ckpt if the last.ckpt beside it is not ``usable``.
    """
    name = None if ckpt_path is None else Path(ckpt_path).name
    if name == "last.ckpt" or (name == "previous.ckpt" and not usable(Path(str(ckpt_path)).with_name("last.ckpt"))):
        return home_of(ckpt_path)
    return None


def home_of(ckpt_path: str | None) -> Path | None:
    """The directory of the run that any of its checkpoints lies in; None: it lies in no run's directory."""
    if ckpt_path is None:
        return None
    folder = Path(ckpt_path).parent
    return folder.parent if folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file() else None


def contents(folder: Path) -> str:
    """What a run has left in its directory besides its config, in words."""
    names = {
        "samples": any((folder / "samples").glob("*")),
        "metrics.csv": (folder / "metrics.csv").is_file(),
        "checkpoints": any((folder / "checkpoints").glob("*")),
    }
    found = [name for name, is_there in names.items() if is_there]
    if not found:
        return "only the config"
    return f"{', '.join(found[:-1])}{' and ' * (len(found) > 1)}{found[-1]}"


def check_writable(folder: Path) -> None:
    """Raises a ValueError if the folder cannot be created or written to; creates nothing."""
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:  # for instance a name that is too long
        raise ValueError(f"{folder} cannot be written to: {error.strerror}.") from None
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"{folder} cannot be written to: {existing} is no folder that may be written.")


def write_samples(samples: Tensor, picture: Tensor, folder: Path) -> None:
    """Writes samples (N, C, H, W) as samples.npy and a picture of them (3, H', W') as samples.png."""
    np.save(folder / "samples.npy", samples.cpu().numpy())
    save_image(picture, folder / "samples.png")
