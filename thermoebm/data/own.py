"""The user's own images as pictures in a folder or a zip."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Literal

import torch

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.decode import Crop, Decoded, Picture, complaint, decode_first
from thermoebm.data.files import stamp
from thermoebm.data.listing import pictures_below, pictures_in, printable
from thermoebm.runtime import randomness

Pictures = dict[PurePosixPath, Picture]

# Compared in lower case; if several exist, the first one here is taken.
_TRAIN = ("train", "training")
_HELD_OUT = ("test", "testing", "val", "valid", "validation", "eval", "held_out")


class Own(ImageDataModule):
    """Base class of :class:`ImageFolder` and :class:`Arrays`: requires an existing root, and divides unsplit images."""

    @property
    def title(self) -> str:
        root = self.root.resolve()
        name = root.name if root.is_dir() else root.stem
        return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or type(self).__name__.lower()

    def obtain(self) -> None:
        if not self.root.exists():
            raise ValueError(f"{type(self).__name__}: {self.root} does not exist; root says where your images are.")

    def divided(self, count: int) -> tuple[list[int], int]:
        """A fixed permutation of unsplit images, and how many of them, from its start, are held out.

        These are ``num_val``, or a tenth by default.

        Raises:
            ValueError: If that leaves nothing to train on, or there is only one image.
        """
        num_val = max(count // 10, 1) if self.num_val is None else self.num_val
        if num_val >= count:
            raise ValueError(
                f"{type(self).__name__}: {num_val} images are to be held out of the {count} in {self.root}; "
                "there must be more."
            )
        return torch.randperm(count, generator=randomness.stream("cpu", 0, "own held out")).tolist(), num_val


class ImageFolder(Own):
    """Pictures in a folder or a zip, at any depth: PNG, JPEG, BMP, GIF (first frame), WebP, TIFF, PPM.

    The splits are the top folders ``train/`` (or ``training/``) and one of ``test/``, ``testing/``, ``val/``,
    ``valid/``, ``validation/``, ``eval/``, ``held_out/``, in upper or lower case. The first ``num_train`` and
    ``num_val`` pictures are taken by name, or from a fixed permutation if there are class folders. Without such top
    folders, a fixed permutation of the sorted names holds out ``num_val`` pictures, a tenth by default. A single folder
    around everything is ignored.

    If all pictures lie in two or more class folders (``train/cat/1.jpg``, ``test/cat/2.jpg``; or ``cat/1.jpg``), a
    label is the position of its folder among the sorted folder names. There are no labels if held-out pictures belong
    to a class without training pictures. One line, printed when the pictures are decoded, says how they were read.

    A JPEG has no checksum: damage that still decodes is noticed only in a zip, by the zip's checksum.

    Args:
        crop: ``whole`` squeezes whole pictures into the square of ``image_size``, as the report's code does;
            ``center`` resizes the shorter side to it and crops the centre, as Pang et al. (2020) do.
        channels: 1 (grey) or 3 (RGB); pictures with other channels are converted.
        skip_unreadable: Leave out pictures that cannot be read; otherwise they raise an error.

    Raises:
        ValueError: If ``crop`` is ``center`` without ``image_size``, or ``channels`` is neither 1 nor 3.
    """

    def __init__(
        self,
        *args: Any,
        crop: Crop = "whole",
        channels: Literal[1, 3] = 3,
        skip_unreadable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if crop == "center" and self.image_size is None:
            raise ValueError("ImageFolder: crop is center, which needs image_size.")
        if channels not in (1, 3):
            raise ValueError(f"ImageFolder: channels is {channels}; it must be 1 or 3.")
        self.crop = crop
        self.channels = channels
        self.skip_unreadable = skip_unreadable

    def source(self) -> list[str]:
        options = f"{self.crop} {self.channels} {self.skip_unreadable}"
        if not self.root.is_dir():
            return [options, *stamp([self.root])]
        return [options, repr(self.root.resolve()), *(repr(found) for found in pictures_below(self.root))]

    @property
    def divides_itself(self) -> bool:
        with pictures_in(self.root) as listed:
            return not self._halves(_unwrapped(list(listed)))

    def read(self) -> tuple[Split, Split]:
        with pictures_in(self.root) as listed:
            pictures = dict(zip(_unwrapped(list(listed)), listed.values(), strict=True))
            halves = self._halves(pictures)
            if halves:
                train, held_out = (_inside(pictures, folder) for folder in halves)
                classes, strange = _classes(train, held_out)
                if classes:  # the first by name would all belong to the first class
                    train, held_out = _mixed(train), _mixed(held_out)
                val = self._decoded(held_out, self.num_val)
            else:
                classes, strange = _classes(pictures, pictures)
                order, num_val = self.divided(len(pictures))
                items = list(pictures.items())
                held_out = dict(items[i] for i in order)
                val = self._decoded(held_out, num_val)
                # Each unreadable picture was replaced by the next one in the order.
                train = dict(items[i] for i in order[len(val.kept) + len(val.faults) :])
            fit = self._decoded(train, self.num_train)
        self._tell(val.faults + fit.faults, len(val.kept) + len(fit.kept))
        if fit.kept and val.kept and fit.images.shape[1:] != val.images.shape[1:]:
            (h, w), (h0, w0) = fit.images.shape[2:], val.images.shape[2:]
            raise ValueError(
                f"{self.root}: training pictures have {w}x{h} pixels and held-out ones {w0}x{h0}; "
                "set image_size to bring all to one size."
            )
        origins = [f" from {folder}/" for folder in halves] if halves else ["", " by a fixed permutation"]
        labelled = f"{len(classes)} classes" if classes else "no classes"
        if strange:
            labelled += f", for there is nothing to train on of {_listed(strange)}"
        unused = _listed(_tops(pictures) - set(halves)) if halves else ""
        print(
            f"{self.title}: {len(fit.kept)} training pictures{origins[0]} and {len(val.kept)} held-out ones"
            f"{origins[1]}; {labelled}{unused and f'; not used: {unused}'}"
        )
        return _split(fit, train, classes), _split(val, held_out, classes)

    def _halves(self, pictures: Iterable[PurePosixPath]) -> list[str]:
        """The top folders of training and held-out pictures; empty if the pictures are unsplit.

        Raises:
            ValueError: If only one of the two exists.
        """
        tops = sorted(_tops(pictures))
        found = [
            next((top for name in names for top in tops if top.lower() == name), None) for names in (_TRAIN, _HELD_OUT)
        ]
        halves = [top for top in found if top is not None]
        if len(halves) == 1:
            missing = _HELD_OUT if found[0] else _TRAIN
            raise ValueError(
                f"{self.root} has {halves[0]}/ but none of {', '.join(f'{name}/' for name in missing)}; name its "
                f"counterpart so, or {halves[0]}/ otherwise if it is a class."
            )
        return halves

    def _decoded(self, pictures: Pictures, count: int | None) -> Decoded:
        """The first ``count`` pictures, or the first ``count`` readable ones if unreadable pictures are skipped."""
        count = len(pictures) if count is None else count
        wanted = list(pictures.values())[: None if self.skip_unreadable else count]
        title = f"decode {self.title}"
        return decode_first(wanted, count, self.image_size, self.crop, self.channels, title)

    def _tell(self, faults: list[str], readable: int) -> None:
        if not faults:
            return
        told = complaint(faults, readable + len(faults))
        if not self.skip_unreadable or not readable:
            raise ValueError(f"{told}; repair or remove them, or set skip_unreadable to go on without them.")
        print(f"{self.title}: {len(faults)} pictures are left out: {told}.")


def _unwrapped(paths: list[PurePosixPath]) -> list[PurePosixPath]:
    """The paths without the single folder around everything, if there is one."""
    tops = {path.parts[0] if len(path.parts) > 1 else None for path in paths}
    return [PurePosixPath(*path.parts[1:]) for path in paths] if len(tops) == 1 and None not in tops else paths


def _inside(pictures: Pictures, folder: str) -> Pictures:
    """The pictures below a top folder, keyed by their path relative to it."""
    return {
        PurePosixPath(*path.parts[1:]): picture
        for path, picture in pictures.items()
        if path.parts[0] == folder and len(path.parts) > 1
    }


def _mixed(pictures: Pictures) -> Pictures:
    """The pictures in a fixed order that is independent of their names."""
    items = list(pictures.items())
    order = torch.randperm(len(items), generator=randomness.stream("cpu", 0, "own mixed"))
    return dict(items[i] for i in order.tolist())


def _listed(folders: Iterable[str]) -> str:
    """The first five folders by name, in one line."""
    names = [f"{printable(folder)}/" for folder in sorted(folders)]
    return ", ".join(names[:5] + ["..."] * (len(names) > 5))


def _tops(pictures: Iterable[PurePosixPath]) -> set[str]:
    """The top folders."""
    return {path.parts[0] for path in pictures if len(path.parts) > 1}


def _classes(train: Pictures, held_out: Pictures) -> tuple[list[str], list[str]]:
    """The sorted class folders, and the folders that contain held-out pictures only.

    There are no classes if the latter exist, or unless all pictures lie in at least two class folders.
    """
    classes, others = _tops(train), _tops(held_out)
    if len(classes) < 2 or any(len(path.parts) == 1 for path in [*train, *held_out]):
        return [], []
    strange = sorted(others - classes)
    return ([], strange) if strange else (sorted(classes), [])


def _split(decoded: Decoded, pictures: Pictures, classes: list[str]) -> Split:
    if not classes:
        return Split(decoded.images, None)
    paths = list(pictures)
    number = {name: i for i, name in enumerate(classes)}
    labels = [number[paths[i].parts[0]] for i in decoded.kept]
    return Split(decoded.images, torch.tensor(labels, dtype=torch.int64))
