"""Autocorrelation, effective sample size and R-hat against ArviZ and against closed forms."""

import math

import arviz
import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from tests.oracle import DTYPE
from thermoebm.samplers.diagnostics import autocorrelation, effective_sample_size, pooled_autocorrelation, split_rhat


def autoregression(rho, chains, draws, seed=0):
    """Stationary Gaussian AR(1) chains with unit variance, x_{i+1} = ρ x_i + sqrt(1 - ρ²) ε."""
    noise = np.random.default_rng(seed).standard_normal((chains, draws))
    noise[:, 1:] *= math.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise)


def normal(chains, draws, seed=0):
    return np.random.default_rng(seed).standard_normal((chains, draws))


KINDS = {
    "independent": normal,
    "slow": lambda m, n: autoregression(0.97, m, n),
    "correlated": lambda m, n: autoregression(0.5, m, n),
    "antithetic": lambda m, n: autoregression(-0.6, m, n),
    "heavy tails": lambda m, n: np.random.default_rng(0).standard_cauchy((m, n)),
    "skew": lambda m, n: np.exp(2 * autoregression(0.6, m, n)),
    "shifted": lambda m, n: normal(m, n) + 2 * np.arange(m)[:, None],
    "scaled": lambda m, n: normal(m, n) * 3.0 ** np.arange(m)[:, None],
    "trend": lambda m, n: normal(m, n) + np.linspace(-3, 3, n),
    "walk": lambda m, n: normal(m, n).cumsum(1),
    "ties": lambda m, n: np.round(autoregression(0.4, m, n)),
    "two values": lambda m, n: (autoregression(0.7, m, n) > 1).astype(float),
    "two values in balance": lambda m, n: np.tile([-1.0, 1.0], (m, n))[:, :n],
    "in order": lambda m, n: np.arange(m * n, dtype=float).reshape(m, n),
    "far from zero": lambda m, n: 1e6 + autoregression(0.3, m, n),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("chains", "draws"), [(1, 101), (2, 4), (2, 7), (3, 10), (4, 20), (4, 63), (5, 250), (8, 1000)]
)
def test_they_are_those_of_arviz(kind, chains, draws):
    """Even and odd numbers of draws, also in single precision and where chains do not agree at all."""
    x = KINDS[kind](chains, draws)
    given = x.astype(np.float32) if chains == 3 else x  # both are judged in double precision
    size, rhat = effective_sample_size(torch.from_numpy(given)), split_rhat(torch.from_numpy(given))
    assert size.dtype == rhat.dtype == DTYPE
    assert size.item() == pytest.approx(arviz.ess(given.astype(float), method="bulk"), rel=1e-9)
    if chains == 1:
        assert rhat.isnan()
    else:
        with np.errstate(invalid="ignore"):  # its folded draws may all be equal
            expected = arviz.rhat(given.astype(float), method="rank")
        assert rhat.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(autocorrelation(torch.from_numpy(x)), arviz.autocorr(x, axis=1), atol=1e-9)


def test_few_constant_and_broken_draws():
    """As ArviZ: too few draws have no diagnostic, constant ones an effective sample size only, NaN ones none."""
    for draws in (1, 2, 3):
        few = torch.randn(4, draws, 2)
        assert split_rhat(few).isnan().all()
        assert effective_sample_size(few).isnan().all()
    constant = torch.full((4, 11), 0.1)
    assert effective_sample_size(constant) == arviz.ess(constant.numpy(), method="bulk") == 40  # the middle is left out
    assert split_rhat(constant).isnan()
    assert autocorrelation(constant).isnan().all()
    still = torch.tensor([0.1, 0.7, -0.3, 1.9], dtype=DTYPE)[:, None].expand(4, 98)
    assert split_rhat(still) == math.inf
    apart = constant * torch.arange(1, 5)[:, None]
    assert effective_sample_size(apart).item() == pytest.approx(arviz.ess(apart.double().numpy(), method="bulk"))
    assert split_rhat(apart) == math.inf
    for broken in (math.nan, math.inf, -math.inf):
        x = torch.randn(4, 50, 2, generator=torch.Generator().manual_seed(0))
        x[2, 30, 1] = broken
        for diagnostic in (split_rhat, effective_sample_size):
            assert diagnostic(x).isnan().tolist() == [False, True]


def test_each_quantity_is_judged_by_itself():
    """Trailing axes are a loop over their entries."""
    x = torch.stack([torch.from_numpy(KINDS[kind](4, 61)) for kind in list(KINDS)[:12]], -1).unflatten(-1, (3, 4))
    for diagnostic in (split_rhat, effective_sample_size, autocorrelation):
        whole = diagnostic(x)
        assert whole.shape[-2:] == (3, 4)
        for i in range(3):
            for j in range(4):
                torch.testing.assert_close(whole[..., i, j], diagnostic(x[..., i, j]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.8, -0.5])
def test_effective_sample_size_of_an_autoregression(rho):
    """ESS/N -> (1 - ρ)/(1 + ρ), as 1 + 2 Σ ρ^k = (1 + ρ)/(1 - ρ). 40 repetitions of 4 chains of 20,000 draws.

    At 2,000 draws the mean of ESS/N would still be 3 % too large for ρ = -.5: it is the inverse of a noisy sum.
    """
    x = torch.from_numpy(autoregression(rho, 160, 20_000)).view(40, 4, -1).permute(1, 2, 0)
    share = effective_sample_size(x) / x[..., 0].numel()
    error = share.std() / 40**0.5
    exact = (1 - rho) / (1 + rho)
    assert error < 0.01 * exact
    assert abs(share.mean() - exact) < 4 * error


@pytest.mark.parametrize("rho", [0.8, -0.5])
def test_autocorrelation_of_an_autoregression(rho):
    """ρ^k up to the bias of a chain of n draws, about -(1 + ρ)/(1 - ρ) (1 - ρ^k)/n - k ρ^k/n - 2 k ρ^k/n."""
    n, lags = 1_000, torch.arange(12)
    found = autocorrelation(torch.from_numpy(autoregression(rho, 2_000, n)))[:, :12]
    power = rho ** lags.double()
    # Marriott & Pope (1954), Biometrika 41; their bias is for the divisor n - k, ours has k ρ^k/n more.
    bias = -((1 + rho) / (1 - rho) * (1 - power) + 2 * lags * power) / n - lags * power / n
    error = found.std(0) / 2_000**0.5
    assert ((found.mean(0) - power - bias).abs() <= 4 * error + 2e-4).all()
    assert error.max() < 1.5e-3


def test_chains_that_stay_apart_are_correlated_at_every_lag():
    """Means with variance b about which chains of variance 1 have ρ^k: (ρ^k + b)/(1 + b); of one chain ρ^k. n = 50,000.

    Standard error of an autocorrelation: at most sqrt((1 + ρ²)/(1 - ρ²)/n) for each of four chains, .0033 with ρ = .6.
    """
    x, means = torch.from_numpy(autoregression(0.6, 4, 50_000)), torch.tensor([0.0, 1.0, 2.0, 5.0])[:, None]
    power, b = 0.6 ** torch.arange(30).double(), means.var().item()
    pooled = pooled_autocorrelation(torch.stack([x, x + means], -1))[:30]
    torch.testing.assert_close(pooled[:, 0], power, rtol=0, atol=0.015)
    torch.testing.assert_close(pooled[:, 1], (power + b) / (1 + b), rtol=0, atol=0.015)
    assert autocorrelation(x + means)[:, 29].abs().max() < 0.05
    assert pooled_autocorrelation(x[:1])[:30].sub(power).abs().max() < 0.03
    assert pooled_autocorrelation(torch.ones(2, 5)).isnan().all()


def test_rhat_sees_other_locations_other_scales_and_a_trend():
    """A fifth of a standard deviation, a factor of 1.5, and chains that all drift: none of which one chain shows."""
    x = torch.from_numpy(normal(4, 10_000))
    assert split_rhat(x) == pytest.approx(1, abs=2e-3)
    shift = torch.tensor([0.0, 0.0, 0.0, 0.2])[:, None]
    # Of normal chains B/n is the variance of their means and W is about 1.
    assert split_rhat(x + shift) == pytest.approx(math.sqrt(1 + (shift.repeat(2, 1)).var().item()), abs=2e-3)
    assert split_rhat(x * torch.tensor([1, 1, 1, 1.5])[:, None]) > 1.005
    assert split_rhat(x + torch.linspace(-0.5, 0.5, 10_000)) > 1.02


@pytest.mark.parametrize("diagnostic", [autocorrelation, pooled_autocorrelation, effective_sample_size, split_rhat])
@pytest.mark.parametrize("shape", [(10,), (0, 5), (2, 0, 3)])
def test_other_shapes_are_refused(diagnostic, shape):
    with pytest.raises(ValueError, match=f"{diagnostic.__name__}: draws have the shape .*give .chains, draws, ...."):
        diagnostic(torch.zeros(shape))
