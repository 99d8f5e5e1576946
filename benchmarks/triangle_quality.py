"""What has a divergence triangle, or a VAE, learned of digits? python -m benchmarks.triangle_quality RUN [RUN ...]

Of each run: the least share of a digit among 1,000 samples and MMD² (benchmarks/digits_quality.py); the mean square
error of held-out reconstructions, beside that of principal components of the training digits, as many as there are
latents; and, where there is an energy, the probability that it is larger for a held-out digit than for an image of
another kind (area under the ROC curve).
"""

import argparse
from typing import NamedTuple

import torch

from benchmarks.digits_quality import Quality, quality
from thermoebm.callbacks.image_energies import area_under_roc, energies_of
from thermoebm.data import Digits
from thermoebm.modules import VAE, DivergenceTriangle
from thermoebm.runs import checkpoints


class Learned(NamedTuple):
    """Quality of the digits, error of as many principal components, and areas under ROC curves by kind of image."""

    digits: Quality
    principal_components: float
    areas: dict[str, float]


@torch.no_grad()
def learned(model: VAE, data: Digits) -> Learned:
    """Measures a model of 8x8 digits."""
    (train, _), (held_out, _) = data.splits
    x, y = (images.double().flatten(1) / 127.5 - 1 for images in (train, held_out))
    _, _, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    axes = axes[: model.generator.latent_dim]
    centred = y - x.mean(0)
    error = (centred - centred @ axes.T @ axes).square().mean().item()
    areas = {}
    if isinstance(model, DivergenceTriangle):
        images = held_out.float() / 127.5 - 1
        energies = energies_of(model, images, model.stream("triangle quality"))
        real = energies.pop("held-out images")
        areas = {name: area_under_roc(real, values) for name, values in energies.items()}
    return Learned(quality(model, data), error, areas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    for run in parser.parse_args().runs:
        model = checkpoints.load_model(run)
        if not isinstance(model, VAE):
            raise SystemExit(f"{run} is a {type(model).__name__}; see benchmarks/digits_quality.py.")
        found = learned(model, Digits())
        print(f"{run}: least share {min(found.digits.shares):.3f}, MMD² {found.digits.mmd2:.4f}")
        print(
            f"  reconstruction error {found.digits.reconstruction_error:.4f}; {model.generator.latent_dim} principal "
            f"components {found.principal_components:.4f}"
        )
        for name, area in found.areas.items():
            print(f"  f is larger for a held-out digit than for {name} with probability {area:.3f}")


if __name__ == "__main__":
    main()
