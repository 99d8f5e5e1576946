"""How good are the digits? A table of checkpoints: python benchmarks/digits_quality.py runs/*/*/checkpoints/last.ckpt

For 1,000 samples of each model: the share of each digit by a 3-nearest-neighbour classifier on the real training
digits, and the unbiased MMD² (Gaussian kernel, γ = 0.05, pixels in [-1, 1]) against the held-out digits. The features
are the pixels, so this is no Inception distance.
"""

import argparse
from functools import partial
from typing import NamedTuple

import torch
from sklearn.neighbors import KNeighborsClassifier

from thermoebm.data import Digits
from thermoebm.metrics.kernels import mmd2, rbf
from thermoebm.modules import ImageModel
from thermoebm.runs import checkpoints


class Quality(NamedTuple):
    """Shares of the ten digits, MMD² and mean square reconstruction error per pixel on held-out digits."""

    shares: list[float]
    mmd2: float
    reconstruction_error: float


def quality(model: ImageModel, data: Digits, count: int = 1000) -> Quality:
    """Measures a model of 8x8 digits."""
    (train, labels), (held_out, _) = data.splits
    real_train, real_held_out = (images.float() / 127.5 - 1 for images in (train, held_out))
    samples = model.generate(count, model.stream("digits quality"))
    classifier = KNeighborsClassifier(3).fit(real_train.flatten(1).numpy(), labels.numpy())
    predicted = torch.from_numpy(classifier.predict(samples.flatten(1).numpy()))
    reconstruction = model.reconstruct(real_held_out, model.stream("digits quality", 1))
    return Quality(
        (predicted.bincount(minlength=10) / count).tolist(),
        mmd2(samples.flatten(1), real_held_out.flatten(1), partial(rbf, gamma=0.05)).item(),
        (real_held_out - reconstruction).square().mean().item(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    print("  MMD²   reconstruction   share of 0 ... 9 in %             checkpoint")
    for path in parser.parse_args().checkpoints:
        result = quality(checkpoints.load_model(path), Digits())
        shares = " ".join(f"{100 * share:2.0f}" for share in result.shares)
        print(f"{result.mmd2:7.4f}   {result.reconstruction_error:10.4f}       {shares}   {path}")


if __name__ == "__main__":
    main()
