"""Features of images by name; distances between two sets of images are computed from them.

    inception                 torch-fidelity's InceptionV3, 2,048 features, the ones of published FID and KID; its
                              weights are downloaded if they are absent and downloads are allowed
    inception:PATH            the same with its weights from this file
    classifier[:digits]       a small network trained on the data set's own labels, 64 features, offline
    pixels                    the image itself, averaged down to 8x8: 64 or 192 features, for images without labels
    package.module.Class      any nn.Module from images (N, C, H, W) in [-1, 1] to features (N, d)

All images, real and generated, are first rounded to eight bits, the precision of a stored picture.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermoebm.metrics import classifier
from thermoebm.metrics.classifier import Labelled
from thermoebm.metrics.fidelity import check_features
from thermoebm.metrics.inception import Inception
from thermoebm.runtime import cache
from thermoebm.runtime.progress import bar

_PREPROCESSING = "rounded to eight bits, [-1, 1]"


class DistanceNames(NamedTuple):
    """The names of the distances on one kind of features."""

    frechet: str
    poly: str
    rbf: str
    mifid: str
    score: str


class Extractor:
    """A named network that extracts features, with checks of its output.

    Args:
        name: Name as in the table of this module.
        network: Maps images (N, C, H, W) in [-1, 1] to features (N, d).
        head: Maps features to logits; None for a network without labels.
        batch_size: Images in a batch.
    """

    def __init__(
        self, name: str, network: nn.Module, head: Callable[[Tensor], Tensor] | None = None, batch_size: int = 250
    ) -> None:
        self.name = name
        self.network = network.eval()
        self.head = head
        self.batch_size = batch_size
        self._code = _code(network)  # read now: the file may be edited while the program runs

    @property
    def distance_names(self) -> DistanceNames:
        """FID, KID, MIFID and IS for Inception's features; for others, generic names with the extractor's name."""
        if self.name == "inception":
            return DistanceNames("FID", "KID", "KID-rbf", "MIFID", "IS")
        return DistanceNames(*(f"{distance}[{self.name}]" for distance in ("FD", "KD", "KD-rbf", "MIFD", "score")))

    @torch.no_grad()
    def __call__(self, images: Tensor, title: str | None = None) -> Tensor:
        """Features (N, d), float32, on the images' device.

        Args:
            images: (N, C, H, W) in [-1, 1], or uint8.
            title: Title of the progress bar; None for no bar.

        Raises:
            ValueError: If there are no images, or the network does not accept them, returns another shape than (N, d)
                or returns features that are not finite.
        """
        if len(images) == 0:
            raise ValueError("There are no images to extract features of.")
        self.network.to(images.device)
        features: list[Tensor] = []
        with bar(len(images), title, "image") as progress:
            for batch in images.split(self.batch_size):
                features.append(self._extract(_quantised(batch)))
                check_features(features[-1], first=sum(map(len, features[:-1])))
                progress.update(len(batch))
        return torch.cat(features)

    def of_real(self, images: Tensor, device: torch.device | str = "cpu", title: str | None = None) -> Tensor:
        """Features of uint8 images, cached on disk; the key is made of images, preprocessing, weights and code."""
        state = [part for name, value in self.network.state_dict().items() for part in (name, value)]
        key = cache.digest(_PREPROCESSING, self.name, repr(self.network), self._code, *state, images)
        kept = cache.cached(Path("features") / f"{key}.pt", lambda: {"features": self(images.to(device), title).cpu()})
        features: Tensor = kept["features"]
        return features.to(device)

    def _extract(self, batch: Tensor) -> Tensor:
        try:
            features = self.network(batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # user code may raise anything
            raise ValueError(
                f"Extractor {self.name} takes no images of shape {tuple(batch.shape[1:])}: {_told(error)}"
            ) from error
        if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != len(batch):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"Extractor {self.name} returned {got} for {len(batch)} images; it must return features "
                f"({len(batch)}, d)."
            )
        return features.float()


def extractor(name: str, data_set: Callable[[str], Labelled] | None = None, download: bool = False) -> Extractor:
    """The extractor of this name; see the table of this module.

    Args:
        name: For instance ``inception``, ``classifier:digits`` or ``my.module.Network``.
        data_set: For a ``classifier``: maps a name to the labelled data set, and an empty name to the data set under
            evaluation; for instance :func:`thermoebm.data.named`.
        download: Whether Inception's weights may be downloaded if they are absent.

    Raises:
        ValueError: If there is no such extractor, its weights are neither present nor downloaded, or a classifier
            has no labels.
    """
    kind, _, which = name.partition(":")
    if name == "pixels":
        return Extractor(name, Pixels())
    if kind == "inception":
        inception = Inception(Path(which) if which else None, download)
        return Extractor("inception", inception, inception.logits, 50)
    if kind == "classifier":
        if data_set is None:
            raise ValueError(f"Extractor '{name}' is trained on labels: give it a data set that has them.")
        labelled = data_set(which)
        network, _accuracy = classifier.load(labelled)
        return Extractor(f"classifier:{labelled.title}", network, network.head)
    return Extractor(name, _by_class_path(name))


class Pixels(nn.Module):
    """The image itself, averaged down to 8x8: needs neither labels nor weights, and is blind to detail."""

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 64 C) of images (N, C, H, W)."""
        return functional.adaptive_avg_pool2d(images, 8).flatten(1)


def _by_class_path(name: str) -> nn.Module:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None) if module else None
    except Exception as error:  # user code may raise anything, here and below
        if not (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            raise ValueError(f"Extractor '{name}' cannot be imported: {_told(error)}") from error
        found = None
    if found is None:
        raise ValueError(
            f"There is no extractor '{name}'; choose inception, classifier, pixels or the class path of an nn.Module."
        )
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"Extractor '{name}' is not a class of nn.Module.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random initial weights are the same each time
        try:
            network = found()
        except Exception as error:
            raise ValueError(f"Extractor '{name}' cannot be built without arguments: {_told(error)}") from error
    return network.requires_grad_(False)


def _told(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _code(network: nn.Module) -> str:
    """Digest of the files that define a network and its layers, without torch's; files they import do not count."""
    modules = {type(layer).__module__ for layer in network.modules()}
    own = [sys.modules.get(name) for name in sorted(modules) if name.partition(".")[0] != "torch"]
    files = [Path(file) for module in own if (file := getattr(module, "__file__", None))]
    return cache.digest(*(path.read_text("utf-8", "replace") for path in files if path.is_file()))


def _quantised(images: Tensor) -> Tensor:
    """Rounds images to the 256 levels of eight bits; float32 in [-1, 1]."""
    levels = images if images.dtype == torch.uint8 else ((images.clamp(-1, 1) + 1) * 127.5).round()
    return levels.float() / 127.5 - 1
