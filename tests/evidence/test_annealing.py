"""Annealed importance sampling on models whose evidence has a closed form."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from tests.oracle import DTYPE, LinearGaussian
from tests.samplers.densities import Bimodal
from tests.tape import tape
from thermoebm import evidence
from thermoebm.densities import GaussianLikelihood, GaussianPrior, PowerPosterior, TemperedPrior
from thermoebm.samplers import MALA, ULA, Kernel, Recorder, StepSizes, run_pilot
from thermoebm.schedules import power_law

CHAINS = 20_000


@pytest.fixture(params=[False, True], ids=["gaussian prior", "tilted prior"])
def oracle(request):
    return LinearGaussian(tilted=request.param)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def tuned(oracle):
    """MALA with steps as large as the curvature allows at each temperature."""
    t = torch.linspace(0, 1, 33, dtype=DTYPE) ** 4
    stiffness = [torch.linalg.eigvalsh(oracle.precision(float(v)))[-1] for v in t]
    return MALA(1.0, 1).tuned(StepSizes(t, 1 / torch.stack(stiffness).detach()))


def both_ways(oracle, kernel, temperatures, chains=CHAINS):
    """log w - log p(x) of chains (R,) from exact draws of the prior, and of the posterior."""
    truth, path = oracle.log_evidence().detach(), oracle.power_posterior(0.0, chains)
    return [
        evidence.anneal(path, temperatures, kernel, oracle.sample(float(end), chains, stream(end)), stream(2 + end),
                        backwards=bool(end)).log_weights - truth
        for end in (0, 1)
    ]  # fmt: skip


def off_one(log_ratio):
    """What the mean of exp(log_ratio) deviates from 1, in standard errors, and the standard error."""
    ratio = log_ratio.exp()
    error = ratio.std() / math.sqrt(len(ratio))
    return abs(ratio.mean() - 1) / error, error


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_weights_are_unbiased_both_ways_and_bound_the_evidence(oracle, power):
    forwards, backwards = both_ways(oracle, tuned(oracle), power_law(24, power))
    for log_ratio, most in ((forwards, 0.1), (-backwards, 0.1)):
        deviation, error = off_one(log_ratio)
        assert error < most
        assert deviation < 4
    assert forwards.mean() < -4 * forwards.std() / math.sqrt(CHAINS)
    assert backwards.mean() > 4 * backwards.std() / math.sqrt(CHAINS)


def test_steps_that_are_not_corrected_do_not_bound_the_evidence():
    """So that the tests above could fail: ULA of a step as large as MALA takes at t = 1."""
    oracle = LinearGaussian()
    forwards, backwards = both_ways(oracle, ULA(0.04, 1), power_law(24, 1.0))
    assert max(off_one(forwards)[0], off_one(-backwards)[0]) > 6


def test_few_chains_agree_where_their_weights_spread_little(oracle):
    """R = 16 and N = 200: each of 50 estimates has a spread below 1; the bias of a log is half its variance."""
    log_w = [part.view(16, 50) for part in both_ways(oracle, tuned(oracle), power_law(200, 3.0), chains=800)]
    for part, inverse in zip(log_w, (False, True), strict=True):
        found = evidence.weigh(part, inverse=inverse)
        assert found.spread.max() < 1
        bias = found.standard_error.square().mean() / 2
        assert abs(found.value.mean()) < 4 * found.value.std() / math.sqrt(50) + bias
        assert found.value.std() / math.sqrt(50) < 0.04


def wide(d=50, dim=784, most=1000.0):
    """log p(x), path, and exact draws of either end; eigenvalues of WᵀW/σl² are from 1 to 1,000."""
    rng, sigma = stream(5), 0.3
    left = torch.linalg.qr(torch.randn(dim, d, generator=rng, dtype=DTYPE))[0]
    right = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=DTYPE))[0]
    eigenvalues = torch.logspace(0, math.log10(most), d, dtype=DTYPE)
    weight = left * (sigma * eigenvalues.sqrt()) @ right.T
    z = torch.randn(d, generator=rng, dtype=DTYPE)
    x = weight @ z + sigma * torch.randn(dim, generator=rng, dtype=DTYPE)
    # In the basis of `left`, x has variances σl² (1 + λ), and σl² across it.
    along = left.T @ x
    truth = Normal(0, sigma * (1 + eigenvalues).sqrt()).log_prob(along).sum()
    truth = truth - (x @ x - along @ along) / (2 * sigma**2) - (dim - d) * math.log(sigma * math.sqrt(2 * math.pi))
    covariance = right / (1 + eigenvalues) @ right.T
    mean = covariance @ (weight.T @ x) / sigma**2

    def draw(end, count, rng):
        noise = torch.randn(count, d, generator=rng, dtype=DTYPE)
        return mean + noise @ torch.linalg.cholesky(covariance).T if end else noise

    likelihood = GaussianLikelihood(lambda z: (z @ weight.T).view(-1, 1, 28, 28), sigma)
    path = PowerPosterior(GaussianPrior(), likelihood, x.view(1, 1, 28, 28), torch.zeros((), dtype=DTYPE))
    return truth, path, draw


def test_both_bounds_of_784_pixels_and_50_latents_close_in_on_the_truth():
    """The truth lies between the bounds, and each comes nearer as N grows; R = 32 chains, step sizes by a pilot."""
    truth, path, draw = wide()
    pilot = run_pilot(path, power_law(30, 4.0), MALA(0.01, 1), draw(0, 32, stream())[:, None], stream(1))
    kernel, means = MALA(0.01, 1).tuned(pilot.sizes), []
    for steps in (150, 600):
        ends = [
            evidence.anneal(
                path, power_law(steps, 4.0), kernel, draw(end, 32, stream(2))[:, None], stream(3), backwards=end
            )
            for end in (False, True)
        ]
        off = [end.log_weights[:, 0] - truth for end in ends]
        errors = [part.std() / math.sqrt(32) for part in off]
        assert off[0].mean() < 4 * errors[0]
        assert off[1].mean() > -4 * errors[1]
        assert all((end.acceptance > 0.2).all() for end in ends)
        means.append([abs(part.mean()) for part in off])
    assert all(fine < coarse / 2 for coarse, fine in zip(*means, strict=True))


class Exact(Kernel):
    """Transitions that forget where they come from: exact draws of p_t(z|x)."""

    class State(NamedTuple):
        z: Tensor

    def __init__(self, oracle):
        super().__init__(1.0, 1)
        self.oracle = oracle

    def init(self, density, z):
        return self.State(z)

    def step(self, density, state, noise):
        mean, covariance = (part.detach() for part in self.oracle.moments(float(density.t)))
        return self.State(mean + noise @ torch.linalg.cholesky(covariance).T), state


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_perfect_transitions_have_the_riemann_sums_for_mean_log_weights(oracle, power):
    """Forwards the left sum, and backwards the right one, within 4 standard errors."""
    t = power_law(12, power)
    sums = evidence.bracket(t, oracle.over(t, "expected_log_likelihood"))
    variance = (t.diff() ** 2 * oracle.over(t, "variance_of_log_likelihood")[:-1]).sum()
    forwards, backwards = (part + oracle.log_evidence().detach() for part in both_ways(oracle, Exact(oracle), t))
    assert abs(forwards.mean() - sums[0]) < 4 * (variance / CHAINS).sqrt()
    assert forwards.var() == pytest.approx(variance.item(), rel=0.15)
    # The last draw backwards is that at t_1, on which the weight of the first interval stands: the same sum.
    right = (t.diff() * oracle.over(t[1:], "expected_log_likelihood")).sum()
    assert abs(backwards.mean() - right) < 4 * backwards.std() / math.sqrt(CHAINS)


@pytest.mark.parametrize("power", [0.3, 1, 3])
def test_orders_of_the_left_sum_and_of_the_second_order_correction(oracle, power):
    """min(1, 2p), also that of E log w of annealing with perfect transitions, and min(4, 5p), of a mild posterior."""
    oracle.likelihood_sigma = 6.0
    truth, sizes, errors = oracle.log_evidence().item(), [16, 32, 64], []  # beyond, rounding shows
    for n in sizes:
        t = power_law(n, power)
        expected, variance = (oracle.over(t, f"{name}_log_likelihood") for name in ("expected", "variance_of"))
        found = evidence.bracket(t, expected)[0], evidence.second_order(t, expected, variance)
        errors.append([abs(value.item() - truth) for value in found])
    orders = [-np.polyfit(np.log(sizes), np.log(column), 1)[0] for column in zip(*errors, strict=True)]
    assert orders == pytest.approx([min(1, 2 * power), min(4, 5 * power)], abs=0.1)


def test_the_constant_of_a_quadratic_energy():
    """log Z_α = -½ log det(I + σ0² A) + ½ cᵀ (A + I/σ0²)⁻¹ c, on the way from π0 to p_α."""
    oracle, count = LinearGaussian(), 20_000
    a, c, variance = oracle.energy.matrix.detach(), oracle.energy.linear.detach(), oracle.prior_sigma**2
    eye = torch.eye(3, dtype=DTYPE)
    truth = -torch.logdet(eye + variance * a) / 2 + c @ torch.linalg.solve(a + eye / variance, c) / 2
    path = TemperedPrior(oracle.prior, torch.zeros((), dtype=DTYPE))
    start = math.sqrt(variance) * torch.randn(count, 3, generator=stream(), dtype=DTYPE)
    log_w = evidence.anneal(path, power_law(20, 1.0), MALA(0.3, 1), start, stream(1)).log_weights
    deviation, error = off_one(log_w - truth)
    assert (deviation < 4, error < 0.02) == (True, True)


def test_the_ratio_between_the_ends_of_a_mixture():
    """exp(m²/2), though the modes have hardly exchanged."""
    start = torch.randn(CHAINS, 2, generator=stream(), dtype=DTYPE)
    path = Bimodal(torch.zeros((), dtype=DTYPE), 2.0)
    log_w = evidence.anneal(path, power_law(30, 1.0), MALA(0.5, 1), start, stream(1)).log_weights
    deviation, error = off_one(log_w - 2.0)
    assert (deviation < 4, error < 0.02) == (True, True)


@pytest.mark.parametrize("kernel", [MALA(0.05, 1), ULA(0.01, 1)])
def test_a_recorder_runs_the_same_chains_in_both_directions(oracle, kernel):
    """One recorder for both, which are on the same path at the same temperatures; 45 steps are
    four blocks of 10, and one of 5."""
    path, recorder, told = oracle.power_posterior(0.0, 6), Recorder(tape), []
    path.x = path.x.clone()
    z = torch.randn(4, 6, 3, generator=stream(), dtype=DTYPE)
    for seed in range(2):
        for backwards in (False, True):
            found, expected = (
                evidence.anneal(path, power_law(45, 2.0), kernel, z, stream(seed), backwards=backwards, **runner)
                for runner in ({"runner": recorder, "progress": told.append}, {})
            )
            assert torch.equal(found.log_weights, expected.log_weights)
            assert torch.equal(found.z, expected.z)
            torch.testing.assert_close(found.acceptance, expected.acceptance, equal_nan=True)
    assert recorder.replays > 5
    assert told[:5] == [10, 10, 10, 10, 5]
    assert expected.log_weights.dtype == torch.float64


def test_weights_of_chains_in_single_precision_are_summed_in_double():
    path, z = Bimodal(torch.zeros(())), torch.zeros(3, 2)
    assert evidence.anneal(path, power_law(4, 1.0), MALA(0.5, 1), z, stream()).log_weights.dtype == DTYPE


def test_acceptance_is_in_the_order_of_the_temperatures():
    """With one step size it falls from the prior to the posterior, whichever way chains go; ULA has none."""
    oracle, path = LinearGaussian(), LinearGaussian().power_posterior(0.0, 500)
    for backwards in (False, True):
        z = oracle.sample(float(backwards), 500, stream())
        found = evidence.anneal(path, power_law(15, 2.0), MALA(0.06, 1), z, stream(1), backwards=backwards)
        assert found.acceptance[:5].mean() > found.acceptance[-5:].mean() + 0.1
        assert found.not_finite == 0
    assert evidence.anneal(path, power_law(15, 2.0), ULA(0.01, 1), z, stream(1)).acceptance.isnan().all()


@pytest.mark.parametrize(
    ("temperatures", "sentence"),
    [
        ([0.0], "Annealing: there are 1 temperatures; give at least 2, from 0 to 1."),
        ([0.1, 1.0], "Annealing: the temperatures go from 0.1 to 1; they must begin at 0 and end at 1."),
        ([0.0, 0.6, 0.5, 1.0], "temperatures 1 and 2 descend; each must exceed the one before."),
        ([0.0, math.nan, 1.0], "not every temperature is finite"),
    ],
)
def test_what_is_no_schedule_is_told(oracle, temperatures, sentence):
    z = torch.zeros(2, 3, dtype=DTYPE)
    with pytest.raises(ValueError, match=sentence):
        evidence.anneal(oracle.power_posterior(0.0, 2), torch.tensor(temperatures), MALA(0.1, 1), z, stream())
