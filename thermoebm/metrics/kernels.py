"""Maximum mean discrepancy between two samples of features: kernels, and one pass over their Gram matrices.

Everything is computed in float64. A Gram matrix is computed in slices of rows and never stored.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from thermoebm.runtime.progress import Bar, bar

KernelName = Literal["poly", "rbf"]
Kernel = Callable[[Tensor, Tensor], Tensor]

# Entries in a slice of a Gram matrix: 64 MiB.
_SLICE = 2**23


def poly(x: Tensor, y: Tensor) -> Tensor:
    """The cubic kernel (xᵀy/d + 1)³ (Bińkowski et al. 2018, section 4); x (N, d) and y (M, d) give (N, M)."""
    base = torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1])
    return base * base * base


def rbf(x: Tensor, y: Tensor, gamma: float | None = None) -> Tensor:
    """exp(-γ|x - y|²), by default with γ = 1/d as in the report's code; x (N, d) and y (M, d) give (N, M)."""
    gamma = 1 / x.shape[1] if gamma is None else gamma
    centre = y.mean(0)  # distances stay the same, and far-off features do not lose digits to cancellation
    x, y = x - centre, y - centre
    squared = torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True))
    return squared.clamp_(min=0).mul_(-gamma).exp_()


def kernel(name: KernelName) -> Kernel:
    """The kernel of this name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in ("poly", "rbf"):
        raise ValueError(f"There is no kernel '{name}'; choose 'poly' or 'rbf'.")
    return poly if name == "poly" else rbf


class Discrepancies(NamedTuple):
    """MMD² on K subsets of two samples, and the influence of each image on it.

    Args:
        values: Unbiased MMD² (K,).
        influences: For each sample (N, K), the rate at which the value grows with an image's weight.
            Σ (influence / N)² over the images of both subsets estimates the value's variance.
    """

    values: Tensor
    influences: tuple[Tensor, Tensor]


def discrepancies(
    x: Tensor, y: Tensor, kernel: Kernel, counts_x: Tensor, counts_y: Tensor, *, title: str | None = None
) -> Discrepancies:
    """Unbiased MMD² on many subsets from one pass over the Gram matrices.

    A subset is a column of counts: how often it contains each image. Copies of one image count as distinct images. This
    biases the value, and gives the same result as other implementations of drawing with replacement.

    Source: Gretton et al. (2012), Journal of Machine Learning Research 13, equation 3. The influences are twice the
    centred first projection of its kernel, as in the jackknife of a U-statistic (Arvesen 1969).

    Args:
        x: Features of one sample (N, d).
        y: Features of the other (M, d).
        kernel: A positive definite kernel.
        counts_x: Counts (N, K); each column sums to at least 2.
        counts_y: Counts (M, K), likewise.
        title: Title of the progress bar; None for no bar.
    """
    x, y, counts_x, counts_y = (tensor.double() for tensor in (x, y, counts_x, counts_y))
    n, m = counts_x.sum(0), counts_y.sum(0)
    with bar(2 * len(x) + len(y), title, "row") as progress:
        within_x, diagonal_x = _row_sums(x, kernel, counts_x, progress)
        within_y, diagonal_y = _row_sums(y, kernel, counts_y, progress)
        across_x = torch.zeros_like(within_x)  # Σ_j counts_j k(x_i, y_j)
        across_y = torch.zeros_like(within_y)
        for rows in _slices(len(x), len(y)):
            gram = kernel(x[rows], y)
            across_x[rows] = gram @ counts_y
            across_y += gram.T @ counts_x[rows]
            progress.update(len(gram))
    mean_x = (within_x - diagonal_x.unsqueeze(1)) / (n - 1)
    mean_y = (within_y - diagonal_y.unsqueeze(1)) / (m - 1)
    values = (counts_x * (mean_x / n - 2 * across_x / (n * m))).sum(0) + (counts_y * mean_y / m).sum(0)
    pulls = (2 * (mean_x - across_x / m), counts_x / n), (2 * (mean_y - across_y / n), counts_y / m)
    first, second = (pull - (share * pull).sum(0) for pull, share in pulls)
    return Discrepancies(values, (first, second))


def mmd2(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two samples (N, d) and (M, d), N, M ≥ 2: a scalar, float64.

    Σ_{i≠j} k(x_i, x_j)/(N(N - 1)) + Σ_{i≠j} k(y_i, y_j)/(M(M - 1)) - 2 Σ_{ij} k(x_i, y_j)/(NM)

    The expectation is 0 for two independent samples of one distribution, so the value may be negative. For a sample and
    itself it is at most 0, because the sum across samples contains the diagonal k(x, x) and the sums within do not.
    """
    return discrepancies(x, y, kernel, x.new_ones(len(x), 1), y.new_ones(len(y), 1)).values[0]


def _row_sums(x: Tensor, kernel: Kernel, counts: Tensor, progress: Bar) -> tuple[Tensor, Tensor]:
    """Σ_j counts_j k(x_i, x_j) (N, K), and k(x_i, x_i) (N,)."""
    sums, diagonal = torch.empty_like(counts), x.new_empty(len(x))
    for rows in _slices(len(x), len(x)):
        gram = kernel(x[rows], x)
        sums[rows] = gram @ counts
        diagonal[rows] = gram.diagonal(rows.start)
        progress.update(len(gram))
    return sums, diagonal


def _slices(rows: int, columns: int) -> list[slice]:
    step = max(1, _SLICE // max(1, columns))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
