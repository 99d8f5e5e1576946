"""The Fréchet distance between Gaussians fitted to two samples of features, from triangular factors.

d² = |μ_x - μ_y|² + tr Σ_x + tr Σ_y - 2 tr (Σ_x Σ_y)^½ (report, equation 23). Covariances are never formed: a sample is
kept as the triangular factor R of its features with a column of ones, [1 X] = Q R. R contains N, the mean and a factor
F of the covariance, FᵀF = Σ. Images can be added to R, and two factors can be merged, exactly. tr (Σ_x Σ_y)^½ is the
sum of the singular values of F_x F_yᵀ. No factor is squared and no root of a rounded zero is taken. The distance is
therefore accurate to float64 precision for singular covariances too (fewer images than dimensions, constant features),
where the usual product of covariances keeps half the digits.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Moments of a sample: N images, mean μ (d,), and F (r, d) with FᵀF = Σ (divisor N - 1); float64."""

    images: int
    mean: Tensor
    factor: Tensor


def triangle(features: Tensor) -> Tensor:
    """The triangular factor R (min(N, d + 1), d + 1) of features (N, d), float64."""
    return merge(torch.cat([features.new_ones(len(features), 1), features], 1))


def merge(*triangles: Tensor) -> Tensor:
    """The factor R of several samples taken together, from the R of each."""
    stacked = torch.cat(triangles).double()
    return torch.linalg.qr(stacked, mode="r").R if len(stacked) else stacked


def moments(triangle: Tensor) -> Moments:
    """Reads the moments out of R.

    Raises:
        ValueError: If there are fewer than two images.
    """
    count = round(triangle[0, 0].square().item()) if len(triangle) else 0
    if count < 2:
        raise ValueError(f"A covariance needs at least two images; there are {count}.")
    factor = triangle[1:, 1:] / (count - 1) ** 0.5
    return Moments(count, triangle[0, 1:] / triangle[0, 0], factor)


def frechet_distance(x: Moments, y: Moments) -> Tensor:
    """d² of two samples: a scalar in float64, at least 0 up to round-off."""
    common = torch.linalg.svdvals(x.factor @ y.factor.T).sum()
    return _squared(x, y) - 2 * common


class Influences(NamedTuple):
    """d², and for each sample the influence of an image on d² as a function of its features: (μ, shift, root of T).

    The influence, the rate at which d² grows with the weight of an image x, is 2 (μ_x - μ_y)ᵀu + uᵀ(1 - T)u - E[...],
    with u = x - μ_x and the optimal transport map T from N(0, Σ_x) to N(0, Σ_y) (Rippl, Munk & Sturm 2016, Journal of
    Multivariate Analysis 151). The shift is μ_x - μ_y; for y, the two samples change places.
    """

    value: Tensor
    x: tuple[Tensor, Tensor, Tensor]
    y: tuple[Tensor, Tensor, Tensor]


def influences(x: Moments, y: Moments) -> Influences:
    """d² with the coefficients of every image's influence on it; see :func:`influence`."""
    u, s, vh = torch.linalg.svd(x.factor @ y.factor.T, full_matrices=False)
    kept = s > s.max() * s.new_tensor(torch.finfo(s.dtype).eps) * max(u.shape[0], vh.shape[1])
    root = torch.where(kept, s, torch.inf).rsqrt().unsqueeze(1)
    # T = F_yᵀ V s⁻¹ Vᵀ F_y and T⁻¹ = F_xᵀ U s⁻¹ Uᵀ F_x, kept as their roots.
    towards_y, towards_x = root * (vh @ y.factor), root * (u.T @ x.factor)
    shift = x.mean - y.mean
    return Influences(_squared(x, y) - 2 * s.sum(), (x.mean, shift, towards_y), (y.mean, -shift, towards_x))


def influence(features: Tensor, form: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Uncentred influences 2 shiftᵀu + |u|² - |root u|² (N,) of images with features (N, d); u = features - μ."""
    mean, shift, root = form
    u = features.double() - mean
    return 2 * (u @ shift) + u.square().sum(1) - (u @ root.T).square().sum(1)


def _squared(x: Moments, y: Moments) -> Tensor:
    return (x.mean - y.mean).square().sum() + x.factor.square().sum() + y.factor.square().sum()
