"""Distances between two sets of images, as torchmetrics on features that the caller has extracted.

``update(features, real=...)`` takes features (N, d). The name of a distance depends on the features: FID, KID and MIFID
are reserved for Inception's (:attr:`thermoebm.metrics.features.Extractor.distance_names`).
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.inception import InceptionScore

from thermoebm.metrics import frechet, kernels
from thermoebm.metrics.kernels import KernelName

# Memorisation distance from which on nothing counts as memorised; that of the paper's competition.
_MEMORISED = 0.1
# Rows whose cosines with all others are held at a time.
_ROWS = 1024


def check_features(features: Tensor, num_features: int | None = None, first: int = 0) -> None:
    """Raises an error for features that no distance can be computed from.

    Args:
        features: Features, which should be (N, d) and finite.
        num_features: d, if it is known.
        first: Index of the first of these images among all images.

    Raises:
        ValueError: If they have another shape, or some are not finite; it names the first such image.
    """
    if features.dim() != 2 or num_features not in (None, features.shape[1]):
        raise ValueError(
            f"Features have shape {tuple(features.shape)}; they must be (number of images, "
            f"{num_features or 'number of features'})."
        )
    bad = (~features.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"The features of image {first + int(bad[0])} are not finite, nor are those of {len(bad) - 1} others."
        )


def _merge(stacked: Tensor) -> Tensor:
    """One triangular factor (d + 1, d + 1) of several (K, d + 1, d + 1)."""
    return frechet.merge(*stacked)


class FrechetDistance(Metric):
    """Fréchet distance between Gaussians fitted to the features (report, equation 23); see :mod:`frechet`.

    The state is one triangular factor (d + 1, d + 1) for each set, whatever the number of images.

    Args:
        num_features: Number of features d.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real: Tensor
    fake: Tensor

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features
        empty = torch.zeros(num_features + 1, num_features + 1, dtype=torch.float64)
        for name in ("real", "fake"):
            self.add_state(name, empty.clone(), dist_reduce_fx=_merge)

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features (N, d) of real or of generated images."""
        state = self.real if real else self.fake
        check_features(features, self.num_features, round(state[0, 0].square().item()))
        if not len(features):
            return
        grown = _merge(torch.stack([state, self._padded(frechet.triangle(features))]))
        if real:
            self.real = grown
        else:
            self.fake = grown

    def compute(self) -> Tensor:
        """The squared distance d², a scalar in float64."""
        return frechet.frechet_distance(frechet.moments(self.real), frechet.moments(self.fake))

    def set_dtype(self, dst_type: Any) -> "FrechetDistance":
        """Does nothing: the metric stays in float64."""
        return self

    def _padded(self, triangle: Tensor) -> Tensor:
        return nn.functional.pad(triangle, (0, 0, 0, self.num_features + 1 - len(triangle)))


class KernelDistance(Metric):
    """Unbiased squared maximum mean discrepancy of all features (report, equation 24), without subsets.

    Args:
        kernel: ``poly``, the cubic kernel of KID, or ``rbf``, the kernel of the report's code.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, kernel: KernelName = "poly", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel = kernels.kernel(kernel)
        for name in ("real", "fake"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features (N, d) of real or of generated images."""
        state = self.real if real else self.fake
        check_features(features, state[0].shape[1] if state else None, sum(map(len, state)))
        state.append(features)

    def compute(self) -> Tensor:
        """MMD², a scalar in float64.

        Raises:
            ValueError: If there are fewer than two images of either kind.
        """
        real, fake = (torch.cat([*s]) if len(s) else torch.zeros(0, 1) for s in (self.real, self.fake))
        if min(len(real), len(fake)) < 2:
            raise ValueError(f"A kernel distance needs two images of either kind: {len(real)} and {len(fake)}.")
        return kernels.mmd2(real, fake, self.kernel)


def mifid(real: Tensor, fake: Tensor) -> Tensor:
    """The memorisation-informed Fréchet distance (Bai et al. 2021, arXiv 2106.03062, section 4): a scalar, float64.

    It is the Fréchet distance divided by the memorisation distance m if m < 0.1. m is the mean over generated images of
    the cosine distance 1 - |cos| to the nearest training image. If every generated image is a copy, m is 0 and the
    result infinite, whatever the Fréchet distance. (torchmetrics 1.9 takes the mean over training images, which a few
    repeated ones hardly change, and gives copies of the whole set 0, the best score.)

    Args:
        real: Features of training images (N, d).
        fake: Features of generated images (M, d).
    """
    distance = frechet.frechet_distance(*(frechet.moments(frechet.triangle(x)) for x in (real, fake)))
    memorisation = memorisation_distance(real, fake)
    if memorisation >= _MEMORISED:
        return distance
    return distance / memorisation if memorisation > 0 else distance.new_tensor(torch.inf)


def memorisation_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Mean over generated images, features (M, d), of 1 - |cos| to the nearest of (N, d): from 0, copies, to 1."""
    training, generated = (nn.functional.normalize(x.double(), dim=1) for x in (real, fake))
    nearest = [(rows @ training.T).abs().amax(1) for rows in generated.split(_ROWS)]
    distances = 1 - torch.cat(nearest)
    return distances.where(distances > 8 * torch.finfo(distances.dtype).eps, 0).mean()  # the rest is round-off


def inception_score(logits: Tensor, splits: int = 10) -> tuple[Tensor, Tensor]:
    """torchmetrics' inception score on logits (N, classes): its mean and its standard deviation over splits.

    The permutation of the images comes from a fixed seed and leaves the global random state alone.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric .* will save all extracted features")  # we have them anyway
        metric = InceptionScore(feature=nn.Identity(), splits=splits)
    metric.update(logits.double())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean, deviation = metric.compute()
    return mean, deviation
