"""The user's own images as arrays in an npz file."""

import zipfile

import numpy as np
import torch
from torch import Tensor

from thermoebm.data.base import Split
from thermoebm.data.files import resized, stamp
from thermoebm.data.listing import check_names, open_member, open_zip, printable
from thermoebm.data.own import Own
from thermoebm.data.pixels import UnfitError

_NAMES = ("images", "x", "arr_0")


class Arrays(Own):
    """Images in an npz file, as written by ``numpy.savez_compressed("faces.npz", train=train, test=test)``.

    Images are uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with one or three channels; labels are integers (N,) from
    0. The file has one of two layouts:

    - Split: ``train`` and ``test`` (or ``val``), with optional ``train_labels`` and ``test_labels`` (``val_labels``).
    - Unsplit: a single array, or one named ``images``, ``x`` or ``arr_0``, with optional ``labels``, or labels named
      after it (``images_labels``). One fixed permutation holds out ``num_val`` images, a tenth by default.

    Other arrays beside these are not read; one line, printed when the file is read, names them.
    """

    def source(self) -> list[str]:
        return stamp([self.root])

    def obtain(self) -> None:
        super().obtain()
        if self.root.is_dir():
            raise ValueError(f"Arrays: {self.root} is a folder; root is an npz file.")

    @property
    def divides_itself(self) -> bool:
        with open_zip(self.root) as opened:
            return _held_out(_keys(opened)) is None

    def read(self) -> tuple[Split, Split]:
        with open_zip(self.root) as opened:
            check_names(self.root, opened, opened.infolist())
            keys = _keys(opened)
            held_out = _held_out(keys)
            images = ["train", held_out] if held_out else [self._single(keys)]
            labels = [self._labels_key(keys, key, split=held_out is not None) for key in images]
            others = [printable(key) for key in keys if key not in images + labels]
            if others:
                print(f"{self.title}: arrays not read: {', '.join(others)}")
            if held_out:
                train, val = (self._read(opened, *pair) for pair in zip(images, labels, strict=True))
                if (train.labels is None) != (val.labels is None):
                    raise ValueError(f"{self.root} has labels for one of train and {held_out} only; save both or none.")
                train, val = self._part(train, self.num_train), self._part(val, self.num_val)
                if train.images.shape[1:] != val.images.shape[1:]:
                    shapes = [" x ".join(map(str, split.images.shape[1:])) for split in (train, val)]
                    raise ValueError(
                        f"{self.root}: images of train are {shapes[0]} and of {held_out} {shapes[1]} (C x H x W); "
                        "they must be alike."
                    )
                return train, val
            every = self._read(opened, images[0], labels[0])
        order, num_val = self.divided(len(every.images))
        chosen = torch.tensor(order)
        train, val = (
            Split(every.images[part], None if every.labels is None else every.labels[part])
            for part in (chosen[num_val:][: self.num_train], chosen[:num_val])
        )
        return self._part(train, None), self._part(val, None)

    def _single(self, keys: list[str]) -> str:
        """The key of the images of an unsplit file.

        Raises:
            ValueError: If there is not exactly one candidate.
        """
        images = [key for key in keys if key in _NAMES] or [key for key in keys if not key.endswith("labels")]
        if len(images) != 1:
            raise ValueError(
                f"{self.root} has the arrays {', '.join(keys) or 'none'}; save images as train and test, or as images."
            )
        return images[0]

    def _labels_key(self, keys: list[str], images: str, split: bool) -> str | None:
        """The key of the labels of some images, if there are any.

        Raises:
            ValueError: If there are two candidates.
        """
        found = [key for key in (f"{images}_labels", *([] if split else ["labels"])) if key in keys]
        if len(found) == 2:
            raise ValueError(f"{self.root} has labels in {found[0]} and in {found[1]}; save one of them.")
        return found[0] if found else None

    def _part(self, split: Split, count: int | None) -> Split:
        """The first ``count`` images, resized, with their labels."""
        images = resized(split.images[:count], self.image_size).contiguous()
        return Split(images, None if split.labels is None else split.labels[:count])

    def _read(self, opened: zipfile.ZipFile, key: str, labels_key: str | None) -> Split:
        """All images of a key, with their labels.

        Raises:
            ValueError: If images or labels have a wrong type, shape or range; the message names the key and the remedy.
        """
        images = self._images(key, self._array(opened, key))
        if labels_key is None:
            return Split(images, None)
        labels = self._array(opened, labels_key)
        wrong = None
        if labels.dtype.kind not in "iu":
            wrong = f"holds {labels.dtype} values; save integers from 0"
        elif labels.shape != (len(images),):
            wrong = f"has the shape {labels.shape}; {key} has {len(images)} images, so save ({len(images)},)"
        elif len(labels) and not 0 <= labels.min() <= labels.max() < 2**31:
            wrong = f"goes from {labels.min()} to {labels.max()}; number the classes from 0"
        if wrong:
            raise ValueError(f"{labels_key} in {self.root} {wrong}.")
        return Split(images, torch.from_numpy(labels.astype(np.int64)))

    def _images(self, key: str, array: np.ndarray) -> Tensor:
        """The array as images (N, C, H, W), without a copy."""
        shape, wrong = array.shape, None
        last, second = (array.ndim == 4 and shape[axis] in (1, 3) for axis in (-1, 1))
        if array.dtype != np.uint8:
            wrong = f"holds {array.dtype} values; save uint8, 0 to 255"
        elif 0 in shape:
            wrong = f"has the shape {shape} and no pixels"
        elif array.ndim != 3 and not (last or second):
            wrong = f"has the shape {shape}; save (N, H, W) or (N, H, W, C) with 1 or 3 channels"
        elif last and second:
            wrong = f"has the shape {shape}, in which either axis may be the channels; save (N, H, W) if they are grey"
        if wrong:
            raise ValueError(f"{key} in {self.root} {wrong}.")
        images = torch.from_numpy(array)
        if array.ndim == 3:
            return images.unsqueeze(1)
        return images.permute(0, 3, 1, 2) if last else images

    def _array(self, opened: zipfile.ZipFile, key: str) -> np.ndarray:
        """One array. ``numpy.load`` is not used: it does not reach the checksum if the header declares too little data.

        Raises:
            ValueError: If it is damaged, or holds pickled objects, which are never loaded.
        """
        try:
            with open_member(opened, opened.getinfo(f"{key}.npy")) as file:
                array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):
                    raise ValueError("there is more than its header says")
        except UnfitError as error:
            raise ValueError(f"{key} in {self.root} {error}.") from None
        except MemoryError:
            raise ValueError(f"{key} in {self.root} takes more memory than there is.") from None
        except Exception as error:  # zipfile and numpy raise many types on damaged data
            if "allow_pickle" in str(error):
                raise ValueError(f"{key} in {self.root} holds Python objects; save uint8, 0 to 255.") from None
            told = " ".join(str(error).split())
            raise ValueError(f"{key} in {self.root} is damaged ({told}); save or get the file again.") from None
        return array


def _keys(opened: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in opened.namelist() if name.endswith(".npy")]


def _held_out(keys: list[str]) -> str | None:
    """The key of the held-out images; None unless the file has both these and training images."""
    return next((key for key in ("test", "val") if key in keys and "train" in keys), None)
