"""A small classifier of a data set's own labels, as an offline source of features.

It is trained once, from a fixed seed, and cached under a key made of the data, the labels and the recipe.
``python -m thermoebm.cli.classifier digits`` trains it beforehand.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermoebm.runtime import cache, randomness
from thermoebm.runtime.threads import threads

# Everything that changes the weights is part of their cache key.
_RECIPE = {"version": 3, "steps": 400, "batch": 100, "learning_rate": 3e-3, "weight_decay": 1e-2, "seed": 0}

# Up to this many values per image, training uses one thread.
_TINY = 16 * 16


class Labelled(Protocol):
    """The part of a data set that a classifier needs; :class:`thermoebm.data.ImageDataModule` provides it."""

    @property
    def title(self) -> str:
        """Its name."""

    @property
    def splits(self) -> Sequence[tuple[Tensor, Tensor | None]]:
        """Training and held-out images, uint8 (N, C, H, W), and their labels int64 (N,), or None."""

    def whole(self) -> Self:
        """The same data set with all of its images."""


class Classifier(nn.Module):
    """Convolutions and two linear layers; the features are the activations before the last layer, 64 by default.

    After training, the mean square of the features is 1.

    Args:
        image_shape: (C, H, W).
        classes: Number of labels.
        num_features: Number of features.
    """

    def __init__(self, image_shape: tuple[int, ...], classes: int, num_features: int = 64) -> None:
        super().__init__()
        channels, side = image_shape[0], image_shape[-1]
        stride = 2 if side > 16 else 1  # at full resolution, training would take minutes
        layers: list[nn.Module] = [nn.Conv2d(channels, 32, 3, stride, padding=1), nn.ReLU()]
        width, side = 32, (side + stride - 1) // stride
        while side > 7:
            layers += [nn.Conv2d(width, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            width, side = 64, side // 2
        self.image_shape = tuple(image_shape)
        self.num_features = num_features
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, num_features), nn.ReLU())
        self.head = nn.Linear(num_features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, d) of images (N, C, H, W) in [-1, 1]; ``head`` maps them to logits.

        Raises:
            ValueError: If the images have another shape than those it was trained on.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(f"The classifier takes images of shape {self.image_shape}, not {tuple(images.shape[1:])}.")
        features: Tensor = self.body(images)
        return features


def load(data: Labelled, again: bool = False) -> tuple[Classifier, float]:
    """The data set's classifier, in evaluation mode, and its accuracy on the held-out images.

    It is trained on all training images of the data set, however many of them a run uses, so that distances of
    different runs are comparable. Without an official split, only runs that hold out the same images are comparable,
    because held-out images are never trained on.

    Args:
        data: A data set with labels.
        again: Train it even if it is in the cache.

    Raises:
        ValueError: If the data set has no labels.
    """
    name = data.title
    if any(labels is None for _, labels in data.splits):  # not the whole set: it may take long to decode
        raise ValueError(
            f"{name} has no labels to train a classifier on; choose another extractor, for instance pixels."
        )
    (train, labels), (held_out, truth) = data.whole().splits
    assert labels is not None
    assert truth is not None
    key = cache.digest(train, labels, held_out, truth, repr(_RECIPE))
    path = cache.folder() / "classifiers" / f"{name}-{key}.pt"
    if again:
        path.unlink(missing_ok=True)

    def make() -> dict[str, Any]:
        print(f"Training the classifier of {name} once, to be kept in {path} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        network = _train(train, labels)
        accuracy = _accuracy(network, held_out, truth)
        took = time.perf_counter() - start
        print(f"... {accuracy:.1%} of the held-out images are recognised; {took:.0f} s.", file=sys.stderr, flush=True)
        return {"state": network.state_dict(), "accuracy": accuracy}

    kept = cache.cached(path, make)
    with torch.random.fork_rng(devices=[]):
        network = Classifier(tuple(train.shape[1:]), int(labels.max()) + 1)
    network.load_state_dict(kept["state"])
    return network.eval().requires_grad_(False), kept["accuracy"]


def _train(images: Tensor, labels: Tensor) -> Classifier:
    """Trains on labelled uint8 images; repeatable on one machine, and the global random state is left alone."""
    steps, seed = int(_RECIPE["steps"]), int(_RECIPE["seed"])
    count = 1 if images[0].numel() <= _TINY else torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), threads(count):
        torch.manual_seed(seed)
        network = Classifier(tuple(images.shape[1:]), int(labels.max()) + 1)
        optimizer = torch.optim.AdamW(
            network.parameters(), _RECIPE["learning_rate"], weight_decay=_RECIPE["weight_decay"]
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RECIPE["learning_rate"], total_steps=steps)
        rng = randomness.stream("cpu", seed, "classifier")
        for _ in range(steps):
            batch = torch.randint(len(images), (int(_RECIPE["batch"]),), generator=rng)
            logits = network.head(network(images[batch].float() / 127.5 - 1))
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
    _rescale(network, images)
    return network


@torch.no_grad()
def _rescale(network: Classifier, images: Tensor) -> None:
    """Scales the features to a mean square of 1 on the first 5,000 images; the logits do not change.

    The kernels expect features of this scale: γ is 1/d in one, and 1 is added to xᵀy/d in the other.
    """
    features = torch.cat([network(part.float() / 127.5 - 1) for part in images[:5000].split(500)])
    scale = features.square().mean().sqrt()
    last = network.body[-2]
    for parameter in last.parameters():
        parameter.div_(scale)
    network.head.weight.mul_(scale)


@torch.no_grad()
def _accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    guesses = [network.head(network(part.float() / 127.5 - 1)).argmax(1) for part in images.split(500)]
    return (torch.cat(guesses) == labels).double().mean().item()
