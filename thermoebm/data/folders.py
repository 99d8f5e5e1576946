"""What the folders around pictures mean: which are the splits, and which are classes."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePosixPath

from thermoebm.data.decode import Picture

Pictures = dict[PurePosixPath, Picture]

# Compared in lower case; if several exist, the first one here is taken.
_TRAIN = ("train", "training")
_HELD_OUT = ("test", "testing", "val", "valid", "validation", "eval", "held_out")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def split_folders(root: Path, pictures: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """The folders of training and of held-out pictures; empty if the pictures are unsplit.

    They lie side by side, below single folders at most; pictures that lie loose beside these do not matter.

    Args:
        root: Where the pictures are, for the error.
        pictures: Paths of all pictures.

    Raises:
        ValueError: If only one of the two exists.
    """
    around, inside = PurePosixPath(), list(pictures)
    while True:
        tops = sorted(top_folders(inside))
        found = [
            next((top for name in names for top in tops if top.lower() == name), None) for names in (_TRAIN, _HELD_OUT)
        ]
        halves = [top for top in found if top is not None]
        if len(halves) == 1:
            missing = _HELD_OUT if found[0] else _TRAIN
            raise ValueError(
                f"{root / around} has {halves[0]}/ but none of {', '.join(f'{name}/' for name in missing)}; name its "
                f"counterpart so, or {halves[0]}/ otherwise if it is a class."
            )
        if halves or len(tops) != 1:
            return [around / half for half in halves]
        around /= tops[0]
        inside = [PurePosixPath(*path.parts[1:]) for path in inside if len(path.parts) > 1]


def similar_folders(pictures: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Two folders at any depth that are named as if they were splits, such as ``train2017`` and ``cat/Test-set``."""
    folders = {folder for parent in {path.parent for path in pictures} for folder in (parent, *parent.parents)}
    found: list[PurePosixPath] = []
    for names, others in ((_TRAIN, _HELD_OUT), (_HELD_OUT, _TRAIN)):
        for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder)):
            words = {word.lower() for word in _WORD.findall(folder.name)}
            if words & {*names} and not words & {*others}:
                found.append(folder)
                break
    return found if len(found) == 2 else []


def outside(pictures: Iterable[PurePosixPath], halves: list[PurePosixPath]) -> Counter[str]:
    """How many pictures lie in neither half, and where."""
    around = halves[0].parent.parts
    names = {half.name for half in halves}
    where: Counter[str] = Counter()
    for path in pictures:
        below = path.parts[len(around) :]
        if path.parts[: len(around)] != around or len(below) == 1:
            where["beside the splits"] += 1
        elif below[0] not in names:
            where[f"in {below[0]}/"] += 1
    return where


def inside(pictures: Pictures, folder: PurePosixPath) -> Pictures:
    """The pictures below a folder, keyed by their path relative to it."""
    depth = len(folder.parts)
    return {
        PurePosixPath(*path.parts[depth:]): picture
        for path, picture in pictures.items()
        if path.parts[:depth] == folder.parts and len(path.parts) > depth
    }


def unwrapped(pictures: Pictures) -> Pictures:
    """The pictures without the single folders around all of them, if there are any."""
    parents = [path.parts[:-1] for path in pictures]
    common = takewhile(lambda pair: pair[0] == pair[1], zip(min(parents), max(parents), strict=False))
    return inside(pictures, PurePosixPath(*(name for name, _ in common)))


def top_folders(pictures: Iterable[PurePosixPath]) -> set[str]:
    """The names of the folders at the top."""
    return {path.parts[0] for path in pictures if len(path.parts) > 1}


def class_folders(train: Pictures, held_out: Pictures) -> tuple[list[str], list[str]]:
    """The sorted class folders, and the folders that contain held-out pictures only.

    There are no classes if the latter exist, or unless all pictures lie in at least two class folders.
    """
    classes, others = top_folders(train), top_folders(held_out)
    if len(classes) < 2 or any(len(path.parts) == 1 for path in [*train, *held_out]):
        return [], []
    strange = sorted(others - classes)
    return ([], strange) if strange else (sorted(classes), [])
