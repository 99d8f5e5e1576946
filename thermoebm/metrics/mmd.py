"""Maximum mean discrepancy between two samples."""

import torch
from torch import Tensor


def rbf_mmd2(x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """Unbiased squared maximum mean discrepancy with the kernel exp(-γ|x - y|²).

    0 in expectation for two samples of one distribution, hence sometimes negative.
    Source: Gretton et al. (2012), Journal of Machine Learning Research 13, equation 3.

    Args:
        x: Features of one sample (N, ...), N ≥ 2; trailing axes are flattened.
        y: Features of the other (M, ...), M ≥ 2.
        gamma: γ, in the inverse square of the features' unit.

    Returns:
        A scalar, float64.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-gamma * torch.cdist(a, b).square())

    def off_diagonal_mean(gram: Tensor) -> Tensor:
        return (gram.sum() - gram.trace()) / (len(gram) * (len(gram) - 1))

    return off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()
