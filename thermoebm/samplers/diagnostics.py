"""Diagnostics of Markov chains: autocorrelation, effective sample size and R-hat.

Draws are (chains, draws, ...): the chains of one target are compared with one another, trailing axes index quantities,
each of which is judged by itself. All is computed in float64.

Source: Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Rank-normalization, folding, and localization: an improved
R-hat for assessing convergence of MCMC, Bayesian Analysis 16, arXiv 1903.08008. Agrees with ``arviz.ess`` (method
``bulk``) and ``arviz.rhat`` (method ``rank``) to rounding.
"""

import math

import torch
from torch import Tensor

#: Draws of each chain that effective sample size and R-hat need at least: two in each half.
LEAST_DRAWS = 4


def autocorrelation(draws: Tensor) -> Tensor:
    """ρ_k = c_k/c_0 of each chain, c_k = (1/n) Σ_i (x_i - x̄)(x_{i+k} - x̄), at lags k = 0 .. n-1.

    The mean is the chain's own and the divisor n at every lag, so that a chain of n draws underestimates ρ_k by about
    (1 + 2 Σ ρ)/n.

    Args:
        draws: (chains, n, ...).

    Returns:
        (chains, n, ...), with the lag in place of the draw; NaN for a chain that is constant or not finite.
    """
    x = _checked("autocorrelation", draws)
    covariance = _autocovariance(x)
    constant = x.amax(1, keepdim=True) == x.amin(1, keepdim=True)  # its covariance is zero up to rounding only
    return (covariance / covariance[:, :1]).masked_fill(constant, math.nan)


def pooled_autocorrelation(draws: Tensor) -> Tensor:
    """ρ_k = 1 - (W - c_k)/V at lags k = 0 .. n-1, of all chains together (their equation 10).

    W is the mean variance within the m chains of n draws, B/n the variance of their means, V = (n-1)/n W + B/n and c_k
    the mean autocovariance of the chains. Chains that stay apart are correlated at every lag, which none of them shows.

    Args:
        draws: (chains, n, ...), n at least 2.

    Returns:
        (n, ...); NaN if all draws are equal or one is not finite.
    """
    return _pooled(_checked("pooled_autocorrelation", draws))


def effective_sample_size(draws: Tensor) -> Tensor:
    """Bulk effective sample size: the number of independent draws whose mean would be as exact as that of all chains.

    The draws are replaced by normal scores of their ranks, z = Φ⁻¹((r - 3/8)/(S + 1/4)), and each chain is split in
    two. With the pooled autocorrelation ρ_k of these m chains of n draws (their section 3)

        ESS = m n/τ,    τ = -1 + 2 Σ_j P_j

    for the sums P_j = ρ_{2j} + ρ_{2j+1}, as far as they are positive and with each replaced by the smallest so far
    (Geyer's initial monotone sequence). As in Stan and ArviZ the even lag of the first pair that is left out is added
    once if it is positive, and τ is at least 1/log10(m n).

    Args:
        draws: (chains, draws, ...). Of an odd number of draws the middle one is left out.

    Returns:
        (...): for constant draws their number (without the middle one), NaN if one is not finite (ArviZ: if one is
        NaN) or there are fewer than four in a chain.
    """
    x = _checked("effective_sample_size", draws)
    if x.shape[1] < LEAST_DRAWS:
        return x.new_full(x.shape[2:], math.nan)
    z = _normal_scores(_split(x))
    chains, n = z.shape[:2]
    rho = _pooled(z)
    # The last pair that may be looked at is j = last; the first that is not positive ends the sum before it.
    last = max(0, (n - 3) // 2)
    pairs = rho[: 2 * last + 2].unflatten(0, (last + 1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    end = positive.sum(0).clamp(max=last)
    before = torch.arange(last + 1, device=x.device).view(-1, *[1] * end.dim()) < end
    monotone = pairs.cummin(0).values.where(before, pairs.new_zeros(()))
    left_out, even = pairs.gather(0, end[None])[0], rho.gather(0, 2 * end[None])[0]
    even = even.where((left_out >= 0) | (even > 0), even.new_zeros(()))
    total = chains * n
    size = total / (-1 + 2 * monotone.sum(0) + even).clamp(min=1 / math.log10(total))
    size = size.where(z.amax((0, 1)) > z.amin((0, 1)), size.new_full((), total))
    return size.where(x.isfinite().all(0).all(0), size.new_full((), math.nan))


def split_rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat: about 1 if all chains sample one law; above 1.01 they have not been run long enough.

    R̂ = sqrt(((n-1)/n W + B/n)/W) of the normal scores of m half chains of n draws, with W the mean variance within them
    and B/n the variance of their means. It is the larger one of R̂ of the draws (chains differ in location) and of their
    distances from the median |x - median| (chains differ in scale) (their section 4).

    Args:
        draws: (chains, draws, ...), of two chains at least. Of an odd number of draws the middle one is left out.

    Returns:
        (...): infinite if each half chain stands still, but not at one point; NaN if all draws are equal, one is not
        finite (ArviZ: if one is NaN), there are fewer than four in a chain, or one chain only.
    """
    x = _checked("split_rhat", draws)
    if x.shape[0] < 2 or x.shape[1] < LEAST_DRAWS:
        return x.new_full(x.shape[2:], math.nan)
    halves = _split(x)
    # Where all folded draws are equal, as for two values, only the location can differ: fmax drops the NaN.
    rhat = torch.fmax(_rhat(_normal_scores(halves)), _rhat(_normal_scores((halves - _median(halves)).abs())))
    return rhat.where(x.isfinite().all(0).all(0), rhat.new_full((), math.nan))


def _checked(function: str, draws: Tensor) -> Tensor:
    if draws.dim() < 2 or 0 in draws.shape[:2]:
        raise ValueError(
            f"{function}: draws have the shape {tuple(draws.shape)}; give (chains, draws, ...) with one of each."
        )
    return draws.detach().double()


def _split(x: Tensor) -> Tensor:
    """First and last halves (2 chains, n // 2, ...) of chains (chains, n, ...)."""
    half = x.shape[1] // 2
    return torch.cat([x[:, :half], x[:, -half:]])


def _autocovariance(x: Tensor) -> Tensor:
    """c_k (chains, n, ...) of each chain (chains, n, ...), by fast Fourier transform."""
    n = x.shape[1]
    size = 1 << (2 * n - 1).bit_length()  # zeros behind the chain, or its end would be correlated with its start
    spectrum = torch.fft.rfft(x - x.mean(1, keepdim=True), size, dim=1)
    return torch.fft.irfft(spectrum.abs().square(), size, dim=1)[:, :n] / n


def _pooled(x: Tensor) -> Tensor:
    chains, n = x.shape[:2]
    covariance = _autocovariance(x).mean(0)
    within = covariance[0] * n / (n - 1)
    between = x.mean(1).var(0) if chains > 1 else 0.0
    rho = 1 - (within - covariance) / (covariance[0] + between)
    rho[0] = 1
    return rho.where(x.amax((0, 1)) > x.amin((0, 1)), rho.new_full((), math.nan))


def _normal_scores(x: Tensor) -> Tensor:
    """Φ⁻¹((r - 3/8)/(S + 1/4)) of the ranks r among all S draws of each quantity; equal draws share their mean rank."""
    flat = x.flatten(0, 1).movedim(0, -1).contiguous()  # (..., S)
    ordered = flat.sort(-1).values
    below, upto = (torch.searchsorted(ordered, flat, right=right) for right in (False, True))
    ranks = (below + upto + 1).double() / 2
    scores = torch.special.ndtri((ranks - 0.375) / (flat.shape[-1] + 0.25))
    return scores.movedim(-1, 0).reshape(x.shape)


def _median(x: Tensor) -> Tensor:
    """The median (...) of all draws; of an even number the mean of the two in the middle, which torch's is not."""
    ordered = x.flatten(0, 1).sort(0).values
    count = len(ordered)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _rhat(z: Tensor) -> Tensor:
    n = z.shape[1]
    within = z.var(1).mean(0)
    return ((n * z.mean(1).var(0) / within + n - 1) / n).sqrt()
