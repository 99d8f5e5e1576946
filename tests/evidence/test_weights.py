"""What importance weights say, against direct formulas and simulations of many repetitions."""

import math

import pytest
import torch

from tests.oracle import DTYPE
from thermoebm.evidence import resampled, weigh


def lognormal(chains, images, spread, seed=0):
    """log w ~ N(-spread²/2, spread²), so that E w = 1."""
    rng = torch.Generator().manual_seed(seed)
    return spread * torch.randn(chains, images, generator=rng, dtype=DTYPE) - spread**2 / 2


@pytest.mark.parametrize("shift", [0.0, -2000.0, 2000.0])
@pytest.mark.parametrize("inverse", [False, True])
def test_direct_formulas(shift, inverse):
    """Of weights that overflow too, if they are shifted."""
    log_w = lognormal(6, 5, 0.8)
    w = (-log_w if inverse else log_w).exp()
    value = w.mean(0).log()
    found = weigh(log_w + shift, inverse=inverse)
    torch.testing.assert_close(found.value, (-value if inverse else value) + shift)
    torch.testing.assert_close(found.standard_error, w.std(0) / (w.mean(0) * math.sqrt(6)))
    torch.testing.assert_close(found.spread, log_w.std(0))
    torch.testing.assert_close(found.effective_size, w.sum(0) ** 2 / w.square().sum(0))
    torch.testing.assert_close(weigh((-log_w if inverse else log_w) + shift).effective_size, found.effective_size)


@pytest.mark.parametrize("inverse", [False, True])
def test_the_error_is_that_of_many_repetitions(inverse):
    """4,000 estimates of R = 200 chains of spread .5: of the delta method in theory sqrt((exp(.25) - 1)/200).

    The spread of 4,000 estimates is known to 1.1 %. Bias: minus half the variance, plus for inverse weights.
    """
    sign = -1 if inverse else 1
    found = weigh(sign * lognormal(200, 4000, 0.5), inverse=inverse)
    exact = math.sqrt(math.expm1(0.25) / 200)
    assert found.value.std() == pytest.approx(exact, rel=0.045)
    assert found.standard_error.square().mean().sqrt() == pytest.approx(exact, rel=0.045)
    assert abs(found.value.mean() + sign * exact**2 / 2) < 4 * exact / math.sqrt(4000)


@pytest.mark.parametrize("inverse", [False, True])
def test_few_chains_are_below_the_truth_and_inverse_ones_above(inverse):
    sign = -1 if inverse else 1
    value = sign * weigh(sign * lognormal(4, 4000, 2.0), inverse=inverse).value
    assert value.mean() < -10 * value.std() / math.sqrt(4000)


def test_the_effective_size_is_from_one_to_the_number_of_chains():
    log_w = torch.zeros(8, 3, dtype=DTYPE)
    log_w[:, 1] = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    log_w[3, 2] = 800.0
    found = weigh(log_w)
    torch.testing.assert_close(found.effective_size[[0, 2]], torch.tensor([8.0, 1.0], dtype=DTYPE))
    assert 1 < found.effective_size[1] < 8
    assert found.standard_error[0] == 0
    torch.testing.assert_close(found.standard_error[2], torch.ones((), dtype=DTYPE))


def test_weights_in_single_precision_are_summed_in_double():
    assert weigh(lognormal(4, 2, 1.0).float()).value.dtype == DTYPE


@pytest.mark.parametrize("chains", [0, 1])
def test_one_chain_has_no_error(chains):
    with pytest.raises(ValueError, match=f"{chains} chain for each image has no standard error; take at least 2"):
        weigh(torch.zeros(chains, 3))


def test_resampling_draws_each_in_proportion_to_its_weight():
    """Systematic: each count is the expected one rounded up or down, and its mean over 4,000 draws is exact.

    Within 4 standard errors of a count that is one of two integers.
    """
    weights = torch.tensor([0.0, 0.03, 0.5, 0.12, 0.35], dtype=DTYPE)
    rng, count, repetitions = torch.Generator().manual_seed(0), 11, 4000
    drawn = torch.stack([resampled(weights.log() - 900, count, rng) for _ in range(repetitions)])
    counts = torch.stack([row.bincount(minlength=5) for row in drawn]).double()
    expected = count * weights
    assert ((counts - expected).abs() < 1).all()
    part = expected % 1
    assert ((counts.mean(0) - expected).abs() <= 4 * (part * (1 - part) / repetitions).sqrt() + 1e-9).all()
    # Whatever place it has: in the first place as often as in any other.
    first = torch.stack([(drawn[:, 0] == i).double().mean() for i in range(5)])
    assert ((first - weights).abs() <= 4 * (weights * (1 - weights) / repetitions).sqrt()).all()


def test_resampled_values_have_the_weighted_mean():
    """z ~ N(0, 1) with log w = z are N(1, 1) afterwards; the effective size tells the error, at most .05."""
    rng = torch.Generator().manual_seed(1)
    z = torch.randn(2000, generator=rng, dtype=DTYPE)
    values = z[resampled(z, 2000, rng)]
    error = 1 / math.sqrt(weigh(z).effective_size.item())
    assert error < 0.05
    assert abs(values.mean() - 1) < 4 * error
    assert abs(values.var() - 1) < 8 * error
