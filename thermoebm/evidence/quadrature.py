"""Estimates of the log-evidence log p_θ(x) from a temperature ladder.

Throughout, ``temperatures`` t_i is (T,), ascending from 0 to 1, with Δ_i = t_i - t_{i-1}, and ``expected`` is (T, ...):
E_i = E_{t_i}[log p_β(x|z)] in nats at each temperature. Trailing axes index images or batches.
"""

import math

import torch
from torch import Tensor


def trapezium_weights(temperatures: Tensor) -> Tensor:
    """The weight (T,) of each temperature in the trapezium rule; they add up to 1."""
    half = temperatures.diff() / 2
    edge = half.new_zeros(1)
    return torch.cat([half, edge]) + torch.cat([edge, half])


def trapezium(temperatures: Tensor, expected: Tensor) -> Tensor:
    """The trapezium rule Σ_i Δ_i (E_{i-1} + E_i)/2, the first sum of the report's equation 19.

    It falls short of the exact integral by half a difference of KL divergences (see
    :mod:`thermoebm.objectives.gaussian_kl`). On a power-law schedule with power p the error falls as N_t^-min(2, 3p).

    Returns:
        Log-evidence (...), in nats.
    """
    return torch.tensordot(trapezium_weights(temperatures).to(expected), expected, dims=1)


def bracket(temperatures: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right Riemann sums, Σ_i Δ_i E_{i-1} ≤ log p_θ(x) ≤ Σ_i Δ_i E_i.

    They bracket the log-evidence because E_t never decreases in t. This holds for exact samples: sums over short
    uncorrected chains need not enclose the true value.

    Returns:
        Two log-evidences (...), in nats.
    """
    delta = temperatures.diff().to(expected)
    return torch.tensordot(delta, expected[:-1], dims=1), torch.tensordot(delta, expected[1:], dims=1)


def second_order(temperatures: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
    """The trapezium rule corrected by the slopes V: Σ_i Δ_i (E_{i-1} + E_i)/2 - Δ_i²/12 (V_i - V_{i-1}).

    The slope of E_t is V_t = Var_t(log p_β(x|z)), so no further samples are needed. Use it for fine ladders only.
    Source: Friel, Hurn & Wyse (2014), Statistics and Computing 24.

    Args:
        temperatures: (T,).
        expected: (T, ...).
        variance: Var_t(log p_β(x|z)) within one image (T, ...), in nats².

    Returns:
        Log-evidence (...), in nats.
    """
    squared = (temperatures.diff() ** 2 / 12).to(expected)
    return trapezium(temperatures, expected) - torch.tensordot(squared, variance.diff(dim=0), dims=1)


def stepping_stone(temperatures: Tensor, log_likelihood: Tensor) -> Tensor:
    """Stepping-stone estimate Σ_i log E_{t_{i-1}}[exp(Δ_i log p_β(x|z))], which needs no quadrature.

    For exact samples each factor E_{t_{i-1}}[...] is estimated without bias; the logarithm is only consistent in the
    number of chains.
    Source: Xie et al. (2011), Systematic Biology 60.

    Args:
        temperatures: (T,).
        log_likelihood: log p_β(x|z) of R chains at each temperature (T, R, ...), in nats.

    Returns:
        Log-evidence (...), in nats.
    """
    delta = temperatures.diff().to(log_likelihood)
    scaled = delta.view(-1, *[1] * (log_likelihood.dim() - 1)) * log_likelihood[:-1]
    return (scaled.logsumexp(1) - math.log(log_likelihood.shape[1])).sum(0)
