"""Evidence and gradients in a nonlinear model with d = 2 against sums over a fine grid."""

import pytest
import torch

from tests.oracle import flat
from tests.quadrature import Quadrature
from thermoebm import evidence
from thermoebm.modules import LatentEBM
from thermoebm.objectives import GaussianKL, MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import ULA
from thermoebm.schedules import PowerLaw

SCHEDULES = [PowerLaw(5, 1.0), PowerLaw(6, 3.0, "points")]
IDS = ["6 points, p = 1", "6 points, p = 3"]


def by_hand(schedule):
    """t_i = (i/N)^p for 0..N: N = N_t intervals, or N_t points."""
    n = schedule.num_temperatures - (schedule.reading == "points")
    return torch.tensor([(i / n) ** schedule.power for i in range(n + 1)], dtype=torch.float64)


class TestEvidence:
    def test_a_finer_and_wider_grid_changes_nothing(self):
        coarse, fine, t = Quadrature(), Quadrature(241, 8.5), torch.linspace(0, 1, 5, dtype=torch.float64)
        torch.testing.assert_close(coarse.log_evidence(), fine.log_evidence(), rtol=0, atol=1e-8)
        for one, other in zip(coarse.over(t), fine.over(t), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)

    def test_orders_of_the_sums_that_converge_to_it(self):
        """∫ E_t dt = log p(x): trapezium of order 2, Riemann sums of order 1, with the slopes' correction order 4.

        At N = 16, 32, 64, 128 and p = 2. The last errors are 1.5e-4, 4e-2 and 1.2e-8 of 3 and 10 nats.
        """
        model = Quadrature()
        errors = []
        for n in (16, 32, 64, 128):
            t = PowerLaw(n, 2.0).temperatures()
            expected, variance = model.over(t)
            sums = [evidence.trapezium(t, expected), *evidence.bracket(t, expected)]
            errors.append(torch.stack([*sums, evidence.second_order(t, expected, variance)]) - model.log_evidence())
        error = torch.stack(errors).detach()
        assert error[-1].abs().amax(1).tolist() < [4e-4, 0.05, 0.05, 5e-8]
        orders = (error[:-1] / error[1:]).log2()
        for row, order in enumerate((2, 1, 1, 4)):
            torch.testing.assert_close(orders[-1, row], torch.full((2,), float(order)).double(), rtol=0, atol=0.02)

    @pytest.mark.parametrize("power", [0.1, 0.5, 1, 3, 10])
    @pytest.mark.parametrize("reading", ["intervals", "points"])
    def test_bracket_and_exact_correction_at_any_schedule(self, power, reading):
        """Left sum < log p(x) < right sum by far; trapezium and difference of the exact KLs are log p(x)."""
        model, schedule = Quadrature(), PowerLaw(6, power, reading)
        t, exact = schedule.temperatures(), model.log_evidence().detach()
        torch.testing.assert_close(t, by_hand(schedule), rtol=1e-14, atol=0)
        expected, _ = model.over(t)
        left, right = evidence.bracket(t, expected)
        assert (left < exact - 0.01).all()
        assert (right > exact + 0.01).all()

        p = torch.stack([model.log_joint(model.z, v).log_softmax(0) for v in t.tolist()]).detach()
        forward = (p[:-1].exp() * (p[:-1] - p[1:])).sum(1)
        reverse = (p[1:].exp() * (p[1:] - p[:-1])).sum(1)
        corrected = evidence.trapezium(t, expected) + GaussianKL().combine(forward, reverse)
        torch.testing.assert_close(corrected, exact, rtol=0, atol=1e-9)

    def test_stepping_stones_of_exact_draws(self):
        """25 repeats of 2,000 draws at each of 11 temperatures, within 4 standard errors of about 0.004 nats."""
        model, rng, t = Quadrature(), torch.Generator().manual_seed(0), PowerLaw(10, 2.0).temperatures()
        estimates = []
        for _ in range(25):
            z = torch.stack([model.sample(v, 4_000, rng) for v in t.tolist()])
            ell = model.likelihood.log_prob(model.images(4_000), z).detach().view(len(t), 2_000, 2)
            estimates.append(evidence.stepping_stone(t, ell))
        estimate, error = torch.stack(estimates).mean(0), torch.stack(estimates).std(0) / 5
        assert ((estimate - model.log_evidence()).abs() < 4 * error).all()
        assert error.max() < 0.006


def exact_gradient(model):
    """∇ log p(x), by autograd through the sum over the grid, the mean of the two images."""
    return flat(torch.autograd.grad(model.log_evidence().mean(), model.parameters))


def gradient_under(model, laws, t, estimator):
    """What ThermodynamicIntegration's docstring states, with laws (P, 2) on the grid in place of p_t."""
    ell, f = model.log_likelihood(model.z), model.energy(model.z).unsqueeze(-1)
    if estimator != "pathwise":
        laws = [law.detach() for law in laws]
    expected = torch.stack([(law * ell).sum(0).mean() for law in laws])
    contrast = ((laws[-1] - laws[0]) * f).sum(0).mean()
    gain = expected[-1] if estimator == "endpoints" else torch.trapezoid(expected, t)
    wanted = gain + contrast if estimator in ("endpoints", "contrastive") else gain
    gradient = torch.autograd.grad(wanted, model.parameters, allow_unused=True, materialize_grads=True)
    return flat(gradient), expected.detach()


def repeated(objective, model, exact, repeats, chains):
    """Mean ascent direction and its standard error; mean and standard error of what is logged."""
    gradients, logged = [], []
    for repeat in range(repeats):
        rng = torch.Generator().manual_seed(repeat)
        output = objective(model, exact.images(chains), rng)
        gradient = torch.autograd.grad(output.loss, exact.parameters, allow_unused=True, materialize_grads=True)
        gradients.append(-flat(gradient))
        logged.append(torch.stack([*output.ladder.values(), output.diagnostics["log_likelihood"]]))
    return [(a.mean(0), a.std(0) / repeats**0.5) for a in (torch.stack(gradients), torch.stack(logged))]


def assert_agrees(mean, error, exact):
    """Every component within 4 standard errors: of 33 of a t-law, a false alarm for one new seed in 75 or fewer."""
    assert ((mean - exact).abs() <= 4 * error + 1e-12).all()
    assert error.max() < 0.02 * exact.abs().max()  # sharp enough for a wrong term to show


def assert_logged(logged, error, t, expected):
    """nll, left_sum, right_sum and log_likelihood within 4 standard errors of the sums of E_t."""
    step = t.diff()
    sums = [-torch.trapezoid(expected, t), step @ expected[:-1], step @ expected[1:], expected[-1]]
    assert ((logged - torch.stack(sums)).abs() <= 4 * error).all()
    assert error.max() < 0.007 * sums[0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=IDS)
@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "detached"])
def test_exact_draws_give_the_stated_gradient_of_every_estimator(estimator, schedule):
    """40 repeats of 2,000 draws at every t: each parameter, and all that is logged, within 4 standard errors.

    What is stated for ``endpoints`` is the exact gradient. ``contrastive`` is off it by over 20 standard errors in the
    generator and nowhere in the energy.
    """
    model, t = Quadrature(), by_hand(schedule)
    stated, expected = gradient_under(model, [model.probabilities(v) for v in t.tolist()], t, estimator)
    exact, energy = exact_gradient(model), model.in_energy
    (mean, error), logged = repeated(ThermodynamicIntegration(estimator, schedule), model, model, 40, 2_000)
    assert_agrees(mean, error, stated)
    assert_logged(*logged, t, expected)
    off = (mean - exact).abs() / error
    if estimator == "endpoints":
        torch.testing.assert_close(stated, exact, rtol=1e-8, atol=1e-10)
    if estimator == "contrastive":
        torch.testing.assert_close(stated[energy], exact[energy], rtol=1e-8, atol=1e-10)
        assert off[~energy].max() > 20
    if estimator == "detached":
        assert (mean[energy] == 0).all()
        assert off[~energy].max() > 20


def test_exact_draws_give_maximum_likelihood_the_exact_gradient():
    """40 repeats of 2,000 draws; each parameter within 4 standard errors."""
    model = Quadrature()
    (mean, error), _ = repeated(MaximumLikelihood(), model, model, 40, 2_000)
    assert_agrees(mean, error, exact_gradient(model))


STEPS, PRIOR_STEP, POSTERIOR_STEP = 5, 0.15, 0.04  # far from equilibrium


def laws_of(model, t):
    """The law of the chains at each temperature."""
    return [model.langevin(v, POSTERIOR_STEP if v else PRIOR_STEP, STEPS) for v in t.tolist()]


@pytest.fixture(scope="module")
def chained():
    """A model, a schedule and the laws of its chains, with their graph to the parameters."""
    model, schedule = Quadrature(61, 6.0), PowerLaw(3, 2.0)
    return model, schedule, laws_of(model, by_hand(schedule))


@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "pathwise"])
def test_real_chains_give_the_gradient_under_their_own_law(chained, estimator):
    """Five Langevin steps in a LatentEBM: 30 repeats of 600 chains, each parameter within 4 standard errors.

    Under ``pathwise`` it is the gradient of the expectation itself, through the law of the chains. At so few steps it
    is neither the exact gradient nor that of exact draws.
    """
    exact, schedule, laws = chained
    t, objective = by_hand(schedule), ThermodynamicIntegration(estimator, schedule)
    stated, expected = gradient_under(exact, laws, t, estimator)
    samplers = {"prior_sampler": ULA(PRIOR_STEP, STEPS), "posterior_sampler": ULA(POSTERIOR_STEP, STEPS)}
    sigmas = {"prior_sigma": exact.prior_sigma, "likelihood_sigma": exact.likelihood_sigma}
    model = LatentEBM(exact.energy, exact.generator, objective, **samplers, **sigmas, compile="off")
    (mean, error), logged = repeated(objective, model, exact, 30, 600)
    assert_agrees(mean, error, stated)
    assert_logged(*logged, t, expected)
    at_equilibrium = gradient_under(exact, [exact.probabilities(v) for v in t.tolist()], t, estimator)[0]
    for other in (at_equilibrium, exact_gradient(exact)):
        assert ((mean - other).abs() > 10 * error + 1e-12).any()


def test_the_law_of_a_chain_does_not_depend_on_the_grid():
    """E[ℓ] after five steps on a grid as coarse as that of the gradients, and on one finer and wider."""
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    with torch.no_grad():
        coarse, fine = (
            torch.stack([(law * model.log_likelihood(model.z)).sum(0) for law in laws_of(model, t)])
            for model in (Quadrature(61, 6.0), Quadrature(101, 7.0))
        )
    torch.testing.assert_close(coarse, fine, rtol=0, atol=1e-5)
