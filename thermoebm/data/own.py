"""The user's own images as pictures in a folder or a zip."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import torch

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.decode import Crop, Decoded, complaint, decode_first
from thermoebm.data.files import stamp
from thermoebm.data.folders import (
    Pictures,
    class_folders,
    inside,
    outside,
    similar_folders,
    split_folders,
    unwrapped,
)
from thermoebm.data.listing import counted, pictures_below, pictures_in, printable
from thermoebm.runtime import randomness


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

    The splits are the folders ``train/`` (or ``training/``) and one of ``test/``, ``testing/``, ``val/``, ``valid/``,
    ``validation/``, ``eval/``, ``held_out/``, in upper or lower case, at the top or below single folders. The first
    ``num_train`` and ``num_val`` pictures are taken by name, or from a fixed permutation if there are class folders.
    Without such folders, a fixed permutation of the sorted names holds out ``num_val`` pictures, a tenth by default.

    If all pictures lie in two or more class folders (``train/cat/1.jpg``, ``test/cat/2.jpg``; or ``cat/1.jpg``), a
    label is the position of its folder among the sorted folder names. There are no labels if held-out pictures belong
    to a class without training pictures. Single folders around everything are ignored.

    Hidden folders and those of operating systems and file servers, such as ``@eaDir``, are not read. One line, printed
    when the pictures are decoded, says how they were read, and how many were left out and why.

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
        return [options, repr(self.root.resolve()), *(repr(found) for found in pictures_below(self.root)[0])]

    @property
    def divides_itself(self) -> bool:
        with pictures_in(self.root) as listed:
            return not split_folders(self.root, listed.pictures)

    def read(self) -> tuple[Split, Split]:
        with pictures_in(self.root) as (pictures, left_out):
            halves = split_folders(self.root, pictures)
            if halves:
                train, held_out = (inside(pictures, folder) for folder in halves)
                classes, strange = class_folders(train, held_out)
                if classes:  # the first by name would all belong to the first class
                    train, held_out = _mixed(train), _mixed(held_out)
                val = self._decoded(held_out, self.num_val)
                where = [f" from {printable(str(half))}/" for half in halves]
                unused = outside(pictures, halves)
                unused["beyond num_val"] = len(held_out) - len(val.kept) - len(val.faults)
            else:
                whole = unwrapped(pictures)
                classes, strange = class_folders(whole, whole)
                order, num_val = self.divided(len(whole))
                items = list(whole.items())
                held_out = dict(items[i] for i in order)
                val = self._decoded(held_out, num_val)
                # Each unreadable picture was replaced by the next one in the order.
                train = dict(items[i] for i in order[len(val.kept) + len(val.faults) :])
                where = ["", " by a fixed permutation" + _not_by(similar_folders(pictures))]
                unused = Counter()
            fit = self._decoded(train, self.num_train)
        unused["beyond num_train"] = len(train) - len(fit.kept) - len(fit.faults)
        unused["unreadable"] = len(val.faults + fit.faults)
        self._complain(val.faults + fit.faults, len(val.kept) + len(fit.kept))
        if fit.kept and val.kept and fit.images.shape[1:] != val.images.shape[1:]:
            (h, w), (h0, w0) = fit.images.shape[2:], val.images.shape[2:]
            raise ValueError(
                f"{self.root}: training pictures have {w}x{h} pixels and held-out ones {w0}x{h0}; "
                "set image_size to bring all to one size."
            )
        labelled = f"{len(classes)} classes" if classes else "no classes"
        if strange:
            labelled += f", for there is nothing to train on of {_listed(strange)}"
        told = counted(+unused + left_out)
        print(
            f"{self.title}: {len(fit.kept)} training pictures{where[0]} and {len(val.kept)} held-out ones"
            f"{where[1]}; {labelled}{told and f'; left out: {told}'}"
        )
        return _split(fit, train, classes), _split(val, held_out, classes)

    def _decoded(self, pictures: Pictures, count: int | None) -> Decoded:
        """The first ``count`` pictures, or the first ``count`` readable ones if unreadable pictures are skipped."""
        count = len(pictures) if count is None else count
        wanted = list(pictures.values())[: None if self.skip_unreadable else count]
        title = f"decode {self.title}"
        return decode_first(wanted, count, self.image_size, self.crop, self.channels, title)

    def _complain(self, faults: list[str], readable: int) -> None:
        if not faults:
            return
        told = complaint(faults, readable + len(faults))
        if not self.skip_unreadable or not readable:
            raise ValueError(f"{told}; repair or remove them, or set skip_unreadable to go on without them.")
        print(f"{self.title}: {len(faults)} pictures are left out: {told}.")


def _mixed(pictures: Pictures) -> Pictures:
    """The pictures in a fixed order that is independent of their names."""
    items = list(pictures.items())
    order = torch.randperm(len(items), generator=randomness.stream("cpu", 0, "own mixed"))
    return dict(items[i] for i in order.tolist())


def _listed(folders: Iterable[str]) -> str:
    """The first five folders by name, in one line."""
    names = [f"{printable(folder)}/" for folder in sorted(folders)]
    return ", ".join(names[:5] + ["..."] * (len(names) > 5))


def _not_by(similar: Sequence[PurePosixPath]) -> str:
    """Warns of folders that may have been meant as splits."""
    if not similar:
        return ""
    train, held_out = (f"{printable(str(folder))}/" for folder in similar)
    return f", not by {train} and {held_out} (splits are train/ and test/, side by side around all classes)"


def _split(decoded: Decoded, pictures: Pictures, classes: list[str]) -> Split:
    if not classes:
        return Split(decoded.images, None)
    paths = list(pictures)
    number = {name: i for i, name in enumerate(classes)}
    labels = [number[paths[i].parts[0]] for i in decoded.kept]
    return Split(decoded.images, torch.tensor(labels, dtype=torch.int64))
