"""Finds the checkpoints of runs: a run keeps that of its last epoch, and that of its best."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

#: ``last``: last.ckpt, of a run's last epoch; ``best``: best.ckpt, of the best epoch by the run's ``best.monitor``.
Which = Literal["last", "best"]

_HINTS = {"last": "", "best": "; a run keeps one if its best.monitor was logged, and --which last takes the last epoch"}


def find_checkpoints(given: Iterable[str | Path], which: Which = "last") -> list[Path]:
    """The given files, and every WHICH.ckpt below the given folders.

    Raises:
        ValueError: If a path is neither, or a folder holds none.
    """
    found: list[Path] = []
    for path in map(Path, given):
        inside = sorted(path.rglob(f"{which}.ckpt")) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"There is no {which}.ckpt in the folder {path}{_HINTS[which]}.")
        if not inside[0].is_file():
            raise ValueError(f"There is no checkpoint {path}.")
        found += inside
    return list(dict.fromkeys(found))


def find_checkpoint(path: str | Path, which: Which = "last") -> Path:
    """The checkpoint of one run: a path that is no folder as it is, and of a run's folder its WHICH.ckpt.

    Raises:
        ValueError: If the folder holds none, or several.
    """
    if not Path(path).is_dir():
        return Path(path)
    found = find_checkpoints([path], which)
    if len(found) > 1:
        raise ValueError(f"The folder {path} has {len(found)} {which}.ckpt, for instance {found[0]}; name one of them.")
    return found[0]


def without_best(given: Iterable[str | Path]) -> list[Path]:
    """Every last.ckpt below the given folders that has no best.ckpt beside it: runs that ``best`` leaves out."""
    folders = [path for path in map(Path, given) if path.is_dir()]
    last = sorted({path for folder in folders for path in folder.rglob("last.ckpt")})
    return [path for path in last if not path.with_name("best.ckpt").is_file()]
