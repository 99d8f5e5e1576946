"""Every sampler on every density: which law it leaves as it is, started from exact draws."""

import math

import pytest
import torch

from tests.oracle import DTYPE
from tests.samplers.densities import PATHS, TARGETS, T, Target
from thermoebm.densities import GaussianPrior
from thermoebm.samplers import MALA, ULA, ReplicaExchange, StepSizes, run

CHAINS, STEPS = 20_000, 10
EDGES = torch.tensor([-2.4, -1.2, -0.6, 0.0, 0.6, 1.2, 2.4], dtype=DTYPE)


@pytest.fixture(params=TARGETS)
def target(request):
    return TARGETS[request.param]()


def ends(kernel, target: Target, seed=0):
    """The final state of chains (T, n, d) from exact draws."""
    rng = torch.Generator().manual_seed(seed)
    start = target.draw(CHAINS, rng)
    noise = torch.randn(STEPS, *start.shape[:-1], kernel.noise_dim(start.shape[-1]), generator=rng, dtype=DTYPE)
    return run(kernel, target.density(CHAINS), start, noise)[0]


def deviations(z, target, moments=None):
    """What z (T, n, d) deviates from means and covariances, also between temperatures, in standard errors.

    The T temperatures of one ladder are one vector of T d components: the product of the densities makes those of
    different temperatures independent. The error of a mean product is its standard deviation over the root of n.
    """
    mean, covariance = moments or (target.means, target.covariances)
    centred = (z - mean[:, None]).transpose(0, 1).flatten(1)
    exact = torch.block_diag(*covariance)
    products, squared = (power.T @ power / CHAINS for power in (centred, centred.square()))
    means = centred.mean(0) / (exact.diagonal() / CHAINS).sqrt()
    errors = ((squared - products.square()) / CHAINS).sqrt()
    return torch.cat([means, ((products - exact) / errors).flatten()]).abs()


def masses_off(z, target):
    """What the shares of z_1 in bins deviate from their probabilities, in standard errors."""
    exact = target.cdf(EDGES).diff(dim=1)
    found = torch.stack(
        [((low < z[..., 0]) & (z[..., 0] < high)).double().mean(1) for low, high in EDGES.unfold(0, 2, 1)], 1
    )
    return ((found - exact) / (exact * (1 - exact) / CHAINS).sqrt()).abs()


def mala(target):
    """Step sizes by temperature, as large as the density allows."""
    if len(target.stiffness) == 1:
        return MALA(float(1 / target.stiffness), STEPS)
    return MALA(1.0, STEPS).tuned(StepSizes(T[:, 0], 1 / target.stiffness))


def small(target):
    """A step of ULA whose bias is less than one standard error of a variance."""
    return ULA(0.02 / float(target.stiffness.max()), STEPS)


@pytest.mark.parametrize("name", ["ULA", "MALA", "exchange of ULA", "exchange of MALA"])
def test_exact_draws_remain_exact_draws(target, request, name):
    exchanges = name.startswith("exchange")
    if exchanges and request.node.callspec.params["target"] not in PATHS:
        return  # it has one temperature
    inner = mala(target) if name.endswith("MALA") else small(target)
    state = ends(ReplicaExchange(inner) if exchanges else inner, target)
    assert deviations(state.z, target).max() < 4
    assert masses_off(state.z, target).max() < 4
    if exchanges:
        assert (state.swaps.mean(1) / (STEPS / 2) > 0.1).all()
    if name.endswith("MALA"):
        acceptance = (state.inner if exchanges else state).accepted.mean(1) / STEPS
        assert (acceptance > 0.4).all()
        assert (acceptance < 0.99).all()
    else:
        _, law = target.langevin(inner.step_size, STEPS)
        assert (law / target.covariances - 1).diagonal(dim1=-2, dim2=-1).abs().max() < math.sqrt(2 / CHAINS)


def test_the_bias_of_unadjusted_steps_is_that_of_their_own_law_and_corrected_steps_have_none(target):
    """One step size for both, so large that it shows in moments."""
    step_size = 0.8 / float(target.stiffness.max())
    unadjusted, adjusted = (ends(kernel(step_size, STEPS), target, seed=1).z for kernel in (ULA, MALA))
    assert deviations(unadjusted, target, target.langevin(step_size, STEPS)).max() < 4
    assert deviations(unadjusted, target).max() > 6
    assert deviations(adjusted, target).max() < 4
    assert masses_off(adjusted, target).max() < 4


@pytest.mark.parametrize("step_size", [0.25, 0.5, 1.0])
def test_the_variance_of_a_standard_normal(step_size):
    """1 / (1 - s/2) of ULA, and 1 of MALA; standard error v sqrt(2/n)."""
    rng = torch.Generator().manual_seed(2)
    start = torch.randn(CHAINS, 1, generator=rng, dtype=DTYPE)
    noise = torch.randn(40, CHAINS, 2, generator=rng, dtype=DTYPE)
    error, exact = math.sqrt(2 / CHAINS), 1 / (1 - step_size / 2)
    unadjusted = run(ULA(step_size, 40), GaussianPrior(), start, noise[..., :1])[0].z.var()
    assert abs(unadjusted - exact) < 4 * exact * error
    assert abs(unadjusted - 1) > 6 * error
    assert abs(run(MALA(step_size, 40), GaussianPrior(), start, noise)[0].z.var() - 1) < 4 * error


def test_the_closed_forms_of_the_mixture():
    """The grid, which the tests above trust, against the mixture at t = 1 and the normal distribution at t = 0."""
    target, w, m = TARGETS["bimodal"](), 0.3, 1.5
    torch.testing.assert_close(target.means[[0, -1], 0], torch.tensor([0.0, (2 * w - 1) * m], dtype=DTYPE))
    variances = torch.tensor([1.0, 1 + m**2 * (1 - (2 * w - 1) ** 2)], dtype=DTYPE)
    torch.testing.assert_close(target.covariances[[0, -1], 0, 0], variances)
    below = w * torch.special.ndtr(EDGES - m) + (1 - w) * torch.special.ndtr(EDGES + m)
    torch.testing.assert_close(
        target.cdf(EDGES)[[0, -1]], torch.stack([torch.special.ndtr(EDGES), below]), rtol=0, atol=1e-5
    )
