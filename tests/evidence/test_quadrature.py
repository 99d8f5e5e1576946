"""Estimates of the evidence against the closed form of the linear-Gaussian model."""

import numpy as np
import pytest
import torch

from tests.oracle import LinearGaussian
from thermoebm import evidence
from thermoebm.schedules import power_law

POWERS = [0.1, 0.3, 1, 3, 6, 10]


@pytest.fixture(params=[False, True], ids=["gaussian prior", "tilted prior"])
def oracle(request):
    return LinearGaussian(tilted=request.param)


@pytest.mark.parametrize("power", POWERS)
def test_trapezium_is_that_of_numpy(oracle, power):
    t = power_law(10, power)
    expected = oracle.over(t, "expected_log_likelihood")
    assert evidence.trapezium(t, expected).item() == pytest.approx(np.trapezoid(expected, t), rel=1e-12)
    batch = torch.stack([expected, 2 * expected], dim=1)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(evidence.trapezium(t, batch), evidence.trapezium(t, expected) * scale)


@pytest.mark.parametrize("power", POWERS)
def test_the_bracket_holds(oracle, power):
    t = power_law(10, power)
    left, right = evidence.bracket(t, oracle.over(t, "expected_log_likelihood"))
    assert left < oracle.log_evidence() < right


@pytest.mark.parametrize("power", [0.2, 0.4, 1, 3])
def test_the_trapezium_converges_with_its_order(oracle, power):
    """The error falls as N^-min(2, 3p): the first interval is N^-p wide and dominates for small p.

    The noise is large, so that the integrand is smooth on the scale of that interval.
    """
    oracle.likelihood_sigma = 6.0
    sizes = [2**k for k in range(5, 10)]
    ladders = [power_law(n, power) for n in sizes]
    truth = oracle.log_evidence().item()
    errors = [abs(evidence.trapezium(t, oracle.over(t, "expected_log_likelihood")).item() - truth) for t in ladders]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -slope == pytest.approx(min(2, 3 * power), abs=0.1)


def test_the_second_order_correction_converges_with_order_four(oracle):
    sizes = [32, 64, 128, 256]
    errors = []
    for t in (power_law(n, 1.0) for n in sizes):
        expected, variance = oracle.over(t, "expected_log_likelihood"), oracle.over(t, "variance_of_log_likelihood")
        errors.append(abs(evidence.second_order(t, expected, variance).item() - oracle.log_evidence().item()))
    assert -np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(4, abs=0.3)


def test_the_integrand_rises_by_its_variance(oracle):
    """d/dt E_t[ℓ] = Var_t(ℓ), by central differences; checks the oracle that the other tests stand on."""
    t, h = torch.tensor([0.1, 0.5, 0.9]), 1e-5
    slope = (oracle.over(t + h, "expected_log_likelihood") - oracle.over(t - h, "expected_log_likelihood")) / (2 * h)
    # t is float32, so that t ± h carries a rounding error of 6e-8 / 1e-5 relative to h.
    torch.testing.assert_close(slope, oracle.over(t, "variance_of_log_likelihood"), rtol=1e-2, atol=0)


def test_exact_samples_give_each_expectation_within_four_standard_errors(oracle):
    rng = torch.Generator().manual_seed(1)
    count = 40_000
    for t in power_law(10, 3.0).tolist():
        ell = oracle.likelihood.log_prob(oracle.images(count), oracle.sample(t, count, rng)).detach()
        standard_error = (oracle.variance_of_log_likelihood(t) / count).sqrt()
        assert abs(ell.mean() - oracle.expected_log_likelihood(t)) < 4 * standard_error
        # The standard error itself: 40,000 draws of a light-tailed variable give its variance to a few per cent.
        assert ell.var() == pytest.approx(oracle.variance_of_log_likelihood(t).item(), rel=0.08)


def test_stepping_stone_is_the_evidence_within_four_standard_errors(oracle):
    """Standard error by 100 independent repetitions of 500 chains; the log's bias, half their variance, is added."""
    rng = torch.Generator().manual_seed(2)
    t = power_law(10, 3.0)
    ell = torch.stack(
        [
            oracle.likelihood.log_prob(oracle.images(50_000), oracle.sample(v, 50_000, rng)).detach().view(500, 100)
            for v in t.tolist()
        ]
    )
    estimates = evidence.stepping_stone(t, ell)
    standard_error = estimates.std() / 10
    assert abs(estimates.mean() - oracle.log_evidence()) < 4 * standard_error + estimates.var() / 2
    assert standard_error < 0.02
