"""Distances extrapolated to infinitely many images (Chong & Forsyth 2020; report, FID∞ and KID∞).

A distance is measured on subsets of N images of each set, for about ten values of N, and a straight line in 1/N is
fitted; its intercept is the value at N = ∞. The Fréchet distance has a bias of order 1/N, which the intercept removes.
The kernel distances are unbiased at every N: their intercept has the same expectation as the value on all images, but
more noise.

The standard error of the regression is meaningless where subsets share images. The one reported here is the
infinitesimal jackknife (Efron 2014, Journal of the American Statistical Association 109). The intercept is Σ_k w_k d_k
with weights that depend on the sizes only, so an image moves it by Σ_k w_k ψ_k / N_k, summed over the subsets that
contain the image, where ψ_k is its influence on d_k. The sum of the squares of these terms over all images, real and
generated, estimates the variance. Where the two sets have the same distribution, the standard error is too large, by
up to √2.

The slope is another such sum, and its standard error is of the same kind: images that subsets share are counted as
such. A slope within two of them is noise, which is said of a true slope of 0 in about 95 % of cases (in simulations 94
to 96 % where the distributions differ, and 98 to 99 % where they do not; the regression's own error says it in 37 %).
The degrees of freedom are images, so many that Student's t is the normal distribution.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thermoebm.metrics import frechet, kernels
from thermoebm.metrics.fidelity import check_features
from thermoebm.metrics.kernels import KernelName
from thermoebm.runtime.progress import bar

# The sample sizes of the report: linspace(1000, 4500, 10).
SIZES = (1000, 1389, 1778, 2167, 2556, 2944, 3333, 3722, 4111, 4500)

# Below this many images a line in 1/N is meaningless.
_LEAST_SIZE = 10

Protocol = Literal["nested", "with_replacement"]


class Extrapolation(NamedTuple):
    """Distances at several sizes, and the line fitted to them.

    Args:
        sizes: N of each subset.
        values: Distance at each size.
        intercept: The line's value at 1/N = 0.
        standard_error: Standard error of the intercept, over images; NaN if the intercept is biased, because a standard
            error does not cover the bias.
        slope: Slope of the line in 1/N; the bias at N images is slope / N.
        slope_standard_error: Standard error of the slope, over images.
        r_squared: Fraction of the values' variance that the line explains.
        unbiased: Whether the distance is unbiased at every size; its expected slope is then 0.
    """

    sizes: list[int]
    values: list[float]
    intercept: float
    standard_error: float
    slope: float
    slope_standard_error: float
    r_squared: float
    unbiased: bool

    @property
    def slope_is_noise(self) -> bool:
        """Whether the slope is within two standard errors of 0: these images show no bias to be removed."""
        return abs(self.slope) < 2 * self.slope_standard_error


def fit_sizes(available: int, sizes: Sequence[int] | None = None) -> tuple[list[int], str | None]:
    """The sizes to use for a given number of images, and a message if they had to be scaled down.

    Args:
        available: Number of images in the smaller set.
        sizes: Requested sizes; None: the report's ten. If the largest exceeds ``available``, all are scaled down.

    Raises:
        ValueError: If sizes were given and the smallest exceeds ``available``, or if the sizes to use are fewer than
            three or below 10.
    """
    wanted = sorted(set(sizes or SIZES))
    if len(wanted) < 3 or wanted[0] < _LEAST_SIZE:
        raise ValueError(f"Sizes {wanted}: extrapolation needs at least three, none below {_LEAST_SIZE}.")
    if sizes and available < wanted[0]:
        raise ValueError(f"There are {available} images, fewer than the smallest size, {wanted[0]}.")
    if available >= wanted[-1]:
        return wanted, None
    scaled = sorted({round(size * available / wanted[-1]) for size in wanted})
    if len(scaled) < 3 or scaled[0] < _LEAST_SIZE:
        raise ValueError(f"There are {available} images: too few to extrapolate from.")
    told = f"Sizes {wanted[0]} to {wanted[-1]} are scaled down to {scaled[0]} to {scaled[-1]}: there are {available} "
    return scaled, told + "images of the scarcer set."


def subsets(available: int, sizes: Sequence[int], protocol: Protocol, rng: torch.Generator) -> list[Tensor]:
    """Indices (N,) of the images in each subset.

    ``nested``: the first N of one permutation, without replacement. ``with_replacement``: independent draws for each
    size, copies included, as in the report's code; this biases kernel distances.

    Raises:
        ValueError: If the protocol is unknown, or a nested subset is larger than the set.
    """
    if protocol == "with_replacement":
        return [torch.randint(available, (size,), generator=rng, device=rng.device).cpu() for size in sizes]
    if protocol != "nested":
        raise ValueError(f"There is no protocol '{protocol}'; choose 'nested' or 'with_replacement'.")
    if max(sizes) > available:
        raise ValueError(f"A subset of {max(sizes)} out of {available} images cannot be drawn without replacement.")
    order = torch.randperm(available, generator=rng, device=rng.device).cpu()
    return [order[:size] for size in sizes]


def line(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights (K,) of the K values in the least-squares intercept and slope of a line in 1/N, float64."""
    inverse = 1 / torch.tensor(sizes, dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = centred / centred.square().sum()
    return 1 / len(sizes) - inverse.mean() * slope, slope


class Extrapolator:
    """Extrapolates distances between two sets of images, all of them over the same subsets.

    The report's code draws the same positions from both sets with replacement; so does ``with_replacement`` here, from
    the positions that the smaller set has.

    Args:
        real: Features (N, d) of real images.
        fake: Features (M, d) of generated images.
        sizes: Sizes of the subsets, ascending; see :func:`fit_sizes`.
        rng: Stream that draws the subsets.
        protocol: How subsets are drawn; see :func:`subsets`.

    Raises:
        ValueError: If features are not finite, or differ in dimension.
    """

    def __init__(
        self, real: Tensor, fake: Tensor, sizes: Sequence[int], rng: torch.Generator, protocol: Protocol = "nested"
    ) -> None:
        check_features(real)
        check_features(fake, real.shape[1])
        self.sets = real.double(), fake.double()
        self.sizes = list(sizes)
        self.protocol = protocol
        if protocol == "with_replacement":
            shared = subsets(min(len(real), len(fake)), sizes, protocol, rng)
            self.subsets = shared, shared
        else:
            self.subsets = subsets(len(real), sizes, protocol, rng), subsets(len(fake), sizes, protocol, rng)

    def kernel(self, name: KernelName) -> Extrapolation:
        """Extrapolates the kernel distance; one pass over the Gram matrices serves all sizes."""
        x, y = self.sets
        counts = [_counts(len(f), chosen).to(f) for f, chosen in zip(self.sets, self.subsets, strict=True)]
        title = f"{name} kernel distance"
        values, influences = kernels.discrepancies(x, y, kernels.kernel(name), *counts, title=title)
        shares = [c / c.sum(0) * i for c, i in zip(counts, influences, strict=True)]
        return self._fit(values, shares, unbiased=True)

    def frechet(self) -> Extrapolation:
        """Extrapolates the Fréchet distance; a nested subset adds its new images to the moments of the previous one.

        If N ≤ d, covariances are singular and the bias is not linear in 1/N. The intercept then keeps some of the bias,
        and its standard error is NaN.
        """
        values, shares = [], [torch.zeros(len(f), len(self.sizes), dtype=torch.float64) for f in self.sets]
        running = [_Running(f, chosen) for f, chosen in zip(self.sets, self.subsets, strict=True)]
        with bar(len(self.sizes), "Fréchet distance", "size") as progress:
            for k, size in enumerate(self.sizes):
                parts = frechet.influences(*(r.moments(k) for r in running))
                values.append(parts.value)
                for side, form in enumerate((parts.x, parts.y)):
                    chosen = self.subsets[side][k]
                    influence = frechet.influence(self.sets[side][chosen], form).cpu()
                    shares[side][:, k].index_add_(0, chosen, (influence - influence.mean()) / size)
                progress.update()
        fitted = self._fit(torch.stack(values), shares, unbiased=False)
        singular = self.sizes[0] <= self.sets[0].shape[1]
        return fitted._replace(standard_error=math.nan) if singular else fitted

    def _fit(self, values: Tensor, shares: list[Tensor], unbiased: bool) -> Extrapolation:
        """Fits the line; ``shares`` of each set (number of images, K) are influences / N, 0 for images not drawn."""
        values, shares = values.cpu(), [share.cpu() for share in shares]
        of_intercept, of_slope = line(self.sizes)
        intercept, slope = of_intercept @ values, of_slope @ values
        residual = values - intercept - slope / torch.tensor(self.sizes)
        spread = (values - values.mean()).square().sum()

        def error(weights: Tensor) -> float:
            variance = sum(((share @ weights).square().sum() for share in shares), torch.zeros(()))
            return variance.sqrt().item()

        return Extrapolation(
            self.sizes,
            values.tolist(),
            intercept.item(),
            error(of_intercept),
            slope.item(),
            error(of_slope),
            1 - (residual.square().sum() / spread).item() if spread > 0 else 1.0,
            unbiased and self.protocol == "nested",
        )


class _Running:
    """The moments of successive subsets."""

    def __init__(self, features: Tensor, chosen: list[Tensor]) -> None:
        self.features = features
        self.chosen = chosen
        self.triangle = features.new_zeros(0, features.shape[1] + 1)

    def moments(self, k: int) -> frechet.Moments:
        """Moments of subset k; call it for k = 0, 1, … in order."""
        before = self.chosen[k - 1] if k else self.chosen[k][:0]
        if torch.equal(self.chosen[k][: len(before)], before):
            added = frechet.triangle(self.features[self.chosen[k][len(before) :]])
            self.triangle = frechet.merge(self.triangle, added) if k else added
        else:
            self.triangle = frechet.triangle(self.features[self.chosen[k]])
        return frechet.moments(self.triangle)


def _counts(available: int, chosen: list[Tensor]) -> Tensor:
    """How often each image occurs in each subset, (available, K)."""
    return torch.stack([indices.bincount(minlength=available) for indices in chosen], 1)
