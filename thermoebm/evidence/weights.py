"""What R independent importance weights for each image say of log p(x): estimate, error, and whether to trust it.

``log_weights`` are (R, ...), in nats; all results are (...).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Weighed(NamedTuple):
    """An estimate of a log-evidence for each image.

    Args:
        value: log-mean-exp of the weights, in nats: in expectation at most the truth (of inverse weights: at least).
        standard_error: Its Monte Carlo error by the delta method, sd(w) / (mean(w) sqrt(R)).
        spread: Standard deviation of log w over the R chains. Above about 1, the estimate is itself biased downwards.
        effective_size: (Σ w)² / Σ w², from 1 to R.
    """

    value: Tensor
    standard_error: Tensor
    spread: Tensor
    effective_size: Tensor


def weigh(log_weights: Tensor, *, inverse: bool = False) -> Weighed:
    """The estimate log mean w; with ``inverse``, of weights from backward chains, -log mean(1/w).

    Raises:
        ValueError: If there are fewer than two chains, which have no error.
    """
    count = len(log_weights)
    if count < 2:
        raise ValueError(f"{count} chain for each image has no standard error; take at least 2, better 4.")
    log_w = -log_weights.double() if inverse else log_weights.double()
    value = log_w.logsumexp(0) - math.log(count)
    relative = (log_w - value).exp()  # mean 1
    error = (relative.square().mean(0) - 1).clamp(min=0).mul(1 / (count - 1)).sqrt()
    size = count / relative.square().mean(0)
    return Weighed(-value if inverse else value, error, log_w.std(0), size)


def resampled(log_weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Indices (count,) of weights (P,), each drawn on average in proportion to its weight, by systematic resampling.

    Source: Kitagawa (1996), J. Computational and Graphical Statistics 5.
    """
    edges = log_weights.double().softmax(0).cumsum(0)
    offset = torch.rand((), generator=rng, device=log_weights.device, dtype=torch.float64)
    points = (torch.arange(count, device=log_weights.device) + offset) / count
    index = torch.searchsorted(edges, points).clamp(max=len(log_weights) - 1)
    return index[torch.randperm(count, generator=rng, device=log_weights.device)]  # neighbours share an ancestor
