"""CelebA's aligned faces, from the original archive or its unpacked folder."""

import codecs
import contextlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import download_file_from_google_drive

from thermoebm.data.base import ImageDataModule, Split
from thermoebm.data.decode import Picture, complaint, decode_first
from thermoebm.data.download import obtain
from thermoebm.data.files import check_md5, stamp
from thermoebm.data.listing import pictures_below, pictures_in
from thermoebm.data.pixels import UnfitError

_ARCHIVE, _FOLDER, _PARTITION = "img_align_celeba.zip", "img_align_celeba", "list_eval_partition.txt"
# Where the authors' page and the mirrors put them.
_ARCHIVES, _FOLDERS = (_ARCHIVE, f"Img/{_ARCHIVE}"), (_FOLDER, f"Img/{_FOLDER}")
_PARTITIONS = (_PARTITION, f"Eval/{_PARTITION}", "list_eval_partition.csv")
_SITE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
_ALIGNED = (178, 218)
_NUM_IMAGES = 202_599
_IMAGE = re.compile(r"\d+\.jpg")
_LINE = re.compile(rf"({_IMAGE.pattern})(?: +|,)([012]) *")


class CelebA(ImageDataModule):
    """Faces of celebrities (Liu et al. 2015): 162,770 training and 19,962 held-out colour images, without labels.

    These are the official partitions 0 (train) and 2 (test), in the order of the partition file. The files are
    ``img_align_celeba.zip``, which is read without unpacking, or the folder ``img_align_celeba`` it unpacks to, and
    beside it ``list_eval_partition.txt``; all in ``root/celeba``, where torchvision puts them, or in ``root``. The
    authors' folders ``Img`` and ``Eval`` may be around them; as mirrors have it, the images may lie in a folder within
    the folder, and the partition be ``list_eval_partition.csv``.
    A JPEG has no checksum: damage that still decodes is noticed only in the archive, by the archive's checksum.

    Args:
        root: The folder of the files.
        image_size: Side of the images in pixels; the original images are 178x218.
        crop: ``whole`` squeezes the whole image into the square, as the report's code does; ``center`` resizes the
            shorter side and keeps the middle, as Pang et al. (2020) do.
        options: Other arguments of :class:`ImageDataModule`.
    """

    def __init__(
        self,
        root: str | Path = "data",
        image_size: int = 64,
        crop: Literal["whole", "center"] = "whole",
        **options: Any,
    ) -> None:
        super().__init__(root, image_size=image_size, **options)
        self.side = image_size
        self.crop = crop

    @property
    def folder(self) -> Path:
        """The folder that holds the files, or that a download puts them in."""
        here = any((self.root / name).exists() for name in (*_ARCHIVES, *_FOLDERS, *_PARTITIONS))
        return self.root if here else self.root / "celeba"

    def obtain(self) -> None:
        wanted = set() if self._partition.is_file() else {_PARTITION}
        if not (self._archive.is_file() or self._images.is_dir()):
            wanted.add(_ARCHIVE)
        for file_id, md5, name in datasets.CelebA.file_list:
            if name in wanted:
                self._obtain(file_id, md5, name)

    def _obtain(self, file_id: str, md5: str, name: str) -> None:
        folder = self.folder

        def fetch(root: Path) -> None:
            download_file_from_google_drive(file_id, root / folder.relative_to(self.root), name, md5)

        files = {folder / name: f"get it from {_SITE} and put it in {folder}"}
        obtain("CelebA", self.root, files, fetch if self.download else None)

    def source(self) -> list[str]:
        if self._archive.is_file():
            return [self.crop, *stamp([self._partition, self._archive])]
        chosen = {name for names in self._chosen() for name in names}
        found, _ = pictures_below(self._images)
        images = [repr(image) for image in found if image.path.name in chosen]
        return [self.crop, *stamp([self._partition]), repr(self._images.absolute()), *images]

    def read(self) -> tuple[Split, Split]:
        train, held_out = self._chosen()
        place = self._archive if self._archive.is_file() else self._images
        with pictures_in(place) as listed:
            pictures = listed.pictures.items()
            present = {path.name: picture for path, picture in pictures if _IMAGE.fullmatch(path.name)}
            self._check_listed(present)
            wanted = [self._aligned(name, present) for name in train + held_out]
            decoded = decode_first(wanted, len(wanted), self.side, self.crop, 3, "decode CelebA, once")
        if decoded.faults:
            raise ValueError(f"{place}: {complaint(decoded.faults, len(wanted))}; get what is absent or damaged again.")
        return Split(decoded.images[: len(train)], None), Split(decoded.images[len(train) :], None)

    @property
    def _partition(self) -> Path:
        return self._place(_PARTITIONS)

    @property
    def _archive(self) -> Path:
        return self._place(_ARCHIVES)

    @property
    def _images(self) -> Path:
        return self._place(_FOLDERS)

    def _place(self, names: tuple[str, ...]) -> Path:
        """The first of these that exists, or else where the first of them belongs."""
        places = [self.folder / name for name in names]
        return next((place for place in places if place.exists()), places[0])

    def _chosen(self) -> tuple[list[str], list[str]]:
        """Names of training and held-out images."""
        of = partition(self._partition)
        train, held_out = ([name for name, part in of.items() if part == wanted] for wanted in (0, 2))
        return train[: self.num_train], held_out[: self.num_val]

    def _check_listed(self, present: Iterable[str]) -> None:
        """Raises a ValueError if the partition file does not list all images, as when it is truncated."""
        unlisted = set(present) - partition(self._partition).keys()
        if unlisted:
            raise ValueError(
                f"{self._partition} lists all but {len(unlisted)} of the images that are there "
                f"(not {min(unlisted)}): it is cut short or another file."
            )

    def _aligned(self, name: str, present: dict[str, Picture]) -> Picture:
        """The picture of this name; it is an error only when read if it is absent or has another size."""
        if name not in present:
            return Picture(f"{_FOLDER}/{name}", _absent)
        picture = present[name]

        def read() -> bytes:
            content = picture.read()
            size = _size(content)
            if size not in (None, _ALIGNED):
                raise UnfitError(f"is {size[0]}x{size[1]}, not 178x218: it is no aligned image of CelebA")
            return content

        return Picture(picture.name, read)


def _absent() -> bytes:
    """The ``read`` of an absent picture."""
    raise UnfitError("is absent")


def partition(path: Path) -> dict[str, int]:
    """Maps each image's name to its partition, training (0), validation (1) or test (2), in the file's order.

    Raises:
        ValueError: If the file is damaged or not the partition file.
    """
    try:
        lines = _bytes(path).removeprefix(codecs.BOM_UTF8).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged or another file: it is no text.") from None
    of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if number == 1 and line == "image_id,partition":
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] in of:
            wrong = "names an image again" if match else "is no image's name and 0, 1 or 2"
            raise ValueError(f"{path} is damaged or another file: line {number}, {line[:40]!r}, {wrong}.")
        of[match[1]] = int(match[2])
    if len(of) == _NUM_IMAGES:
        md5 = next(md5 for _, md5, name in datasets.CelebA.file_list if name == _PARTITION)
        # It is the checksum of these lines, whatever their ends and their form are in the file.
        check_md5(path, md5, "CelebA", "".join(f"{name} {part}\r\n" for name, part in of.items()).encode())
    return of


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from None


def _size(content: bytes) -> tuple[int, int] | None:
    """Width and height from the picture's header; None if it has none, which decoding reports in detail."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(content)) as picture:
        return picture.size
    return None
