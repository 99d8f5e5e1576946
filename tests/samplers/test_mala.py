"""Metropolis-adjusted Langevin steps: their terms, their acceptance, and their step sizes."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.utils._pytree import tree_leaves

from tests.oracle import DTYPE, LinearGaussian
from tests.samplers.densities import PATHS, TARGETS, T
from thermoebm.densities import Density, GaussianLikelihood, GaussianPrior, PowerPosterior, TemperedPrior, TiltedPrior
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.samplers import MALA, ULA, ReplicaExchange, StepSizes, run, run_pilot

COUNT = 50


def networks():
    """All densities of the package, on networks: z is (3, 7, 5)."""
    torch.manual_seed(0)
    energy, generator = EnergyMLP(5, 20).double(), ConvGenerator(5, (1, 8, 8), 2).double()
    prior = TiltedPrior(energy, GaussianPrior(1.2))
    x = torch.rand(7, 1, 8, 8, dtype=DTYPE)
    posterior = PowerPosterior(prior, GaussianLikelihood(generator, 0.3), x, T)
    return {
        "GaussianPrior": prior.reference,
        "TiltedPrior": prior,
        "TemperedPrior": TemperedPrior(prior, T),
        "PowerPosterior": posterior,
        "at one temperature": posterior.at(torch.tensor(0.4, dtype=DTYPE)),
    }


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("name", [*networks(), *TARGETS])
def test_terms_combine_to_log_density_and_score(name, mode):
    """Which are computed without terms, outside of the mode."""
    if name in TARGETS:
        target = TARGETS[name]()
        density, z = target.density(COUNT), target.draw(COUNT, torch.Generator().manual_seed(0))
    else:
        density, z = networks()[name], torch.randn(3, 7, 5, dtype=DTYPE)
    expected = density.log_prob(z).detach(), density.score(z).detach()
    with mode():
        terms = density.terms(z.clone())
        found = density.combine(terms)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not terms.values.requires_grad
    assert not terms.gradients.requires_grad
    if name not in ("gaussian prior", "GaussianPrior", "TiltedPrior"):
        assert torch.equal(terms.values[0], density.tempered(z))


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [MALA(0.1, 4), ReplicaExchange(MALA(0.1, 4))])
def test_compiled_chains_are_the_same_to_rounding(kernel):
    """Compiling one step of them takes half a minute."""
    target = TARGETS["power posterior, tilted"]()
    rng = torch.Generator().manual_seed(0)
    start = target.draw(COUNT, rng)
    noise = torch.randn(4, *start.shape[:-1], kernel.noise_dim(start.shape[-1]), generator=rng, dtype=DTYPE)
    eager, compiled = (tree_leaves(run(kernel, target.density(COUNT), start, noise, block=b)) for b in (None, 1))
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", TARGETS)
def test_acceptance_is_the_metropolis_ratio(name):
    """Proposals, and densities of proposals there and back, by torch.distributions; every chain, every decision."""
    target, s, rng = TARGETS[name](), 1.5 if name == "gaussian prior" else 0.3, torch.Generator().manual_seed(1)
    density, z = target.density(COUNT), target.draw(COUNT, rng)
    noise = torch.randn(*z.shape[:-1], z.shape[-1] + 1, generator=rng, dtype=DTYPE)
    noise[:, ::5, :-1] = 0  # proposals without noise are the densest there are
    kernel = MALA(s, 1)
    state, info = kernel.step(density, kernel.init(density, z), noise)

    def law(z):
        return Normal(z + s * density.score(z).detach(), math.sqrt(2 * s))

    proposal = law(z).mean + math.sqrt(2 * s) * noise[..., :-1]
    log_ratio = density.log_prob(proposal) + law(proposal).log_prob(z).sum(-1)
    log_ratio = (log_ratio - density.log_prob(z) - law(z).log_prob(proposal).sum(-1)).detach()
    accepted = Normal(0, 1).cdf(noise[..., -1]).log() < log_ratio
    assert torch.equal(info.accepted, accepted)
    assert torch.equal(state.accepted, accepted.to(DTYPE))
    assert 0.05 < accepted.double().mean() < 0.99
    torch.testing.assert_close(state.z, torch.where(accepted[..., None], proposal, z))
    torch.testing.assert_close(state.terms, density.terms(state.z), rtol=1e-12, atol=1e-12)
    assert not info.failed.any()


class Broken(Density):
    """A standard normal density, which has another value beyond a radius of 1."""

    def __init__(self, beyond):
        self.beyond = beyond

    def log_prob(self, z):
        return torch.where(z.norm(dim=-1) < 1, -z.square().sum(-1) / 2, self.beyond + 0 * z[..., 0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_enters_and_is_counted(value):
    """Chains stay in the unit disc, and keep a uniform angle and the radius of the truncated normal law."""
    rng = torch.Generator().manual_seed(0)
    uniform = torch.rand(4000, generator=rng, dtype=DTYPE)
    radius = (-2 * torch.log1p(-uniform * (1 - math.exp(-0.5)))).sqrt()
    angle = 2 * math.pi * torch.rand(4000, generator=rng, dtype=DTYPE)
    z = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    density, kernel, expected = Broken(value), MALA(0.1, 10), torch.zeros(4000, dtype=DTYPE)
    state = kernel.init(density, z)
    for noise in torch.randn(10, 4000, 3, generator=rng, dtype=DTYPE):
        proposal = 0.9 * state.z + math.sqrt(0.2) * noise[:, :-1]
        expected += proposal.norm(dim=-1) >= 1
        state, info = kernel.step(density, state, noise)
        assert (state.z.norm(dim=-1) < 1).all()
        assert not (info.accepted & info.failed).any()
    assert state.terms.values.isfinite().all()
    assert torch.equal(state.failed, expected if value != -math.inf else 0 * expected)  # a density of 0 is no fault
    assert expected.sum() > 1000
    assert torch.equal(kernel.rates(state, 10)["not_finite"], state.failed / 10)
    squared = state.z.square().sum(-1)
    # E r² = 2 - R²/(exp(R²/2) - 1) of a normal law in two dimensions within the radius R = 1.
    exact = 2 - 1 / math.expm1(0.5)
    assert abs(squared.mean() - exact) < 4 * squared.std() / math.sqrt(4000)


def test_step_sizes_between_temperatures():
    known = StepSizes(torch.tensor([0.0, 0.25, 1.0], dtype=DTYPE), torch.tensor([4.0, 1.0, 0.01], dtype=DTYPE))
    t = torch.tensor([[0.0, 0.125, 0.25], [0.625, 1.0, 1.5]], dtype=DTYPE)
    expected = torch.tensor([[4.0, 2.0, 1.0], [0.1, 0.01, 0.01]], dtype=DTYPE)
    torch.testing.assert_close(known.at(t), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(known.at(t[1, 0]), expected[1, 0])
    alone = StepSizes(t[0, :1], expected[0, :1])
    assert torch.equal(alone.at(t), torch.full((2, 3), 4.0, dtype=DTYPE).log().exp())


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("first", [1e-3, 3.0])
def test_the_pilot_reaches_its_acceptance_at_every_temperature(name, first):
    """Measured with its step sizes in chains of their own, from exact draws; they adapt nothing."""
    target, rng = TARGETS[name](), torch.Generator().manual_seed(0)
    start = target.draw(500, rng)[0]
    path = target.density(500)
    pilot = run_pilot(path, torch.cat([T[:1, 0], T[:, 0]]), kernel := MALA(first, 1), start, rng, steps=40)
    tuned = kernel.tuned(StepSizes(*(part[1:] for part in pilot.sizes)))
    state = tuned.init(path, target.draw(500, rng))
    sizes = state.step_size
    for _ in range(20):
        noise = torch.randn(*state.z.shape[:-1], tuned.noise_dim(state.z.shape[-1]), generator=rng, dtype=DTYPE)
        state, _ = tuned.step(path, state, noise)
        assert torch.equal(state.step_size, sizes)
    acceptance = tuned.rates(state, 20)["acceptance"].mean(1)
    assert (acceptance - 0.574).abs().max() < 0.05
    assert (pilot.acceptance[1:] - 0.574).abs().max() < 0.05
    assert (kernel.sizes, kernel.step_size) == (None, first)
    torch.testing.assert_close(sizes[:, 0, 0], pilot.sizes.sizes[1:])


def test_the_pilot_s_expectations_are_those_of_the_path():
    """E_t[ℓ], averaged over 500 chains: within 4 standard errors, and 2 % of the first rise for chains that follow."""
    oracle, rng = LinearGaussian(), torch.Generator().manual_seed(1)
    t = torch.linspace(0, 1, 13, dtype=DTYPE) ** 3
    path, start = oracle.power_posterior(0.0, 500), oracle.sample(0.0, 500, rng)
    pilot = run_pilot(path, t, MALA(0.1, 1), start, rng, steps=40)
    exact, variance = (oracle.over(t, f"{name}_log_likelihood") for name in ("expected", "variance_of"))
    error = (variance / 500).sqrt()
    assert ((pilot.expected.mean(1) - exact).abs() < 4 * error + 0.02 * (exact[1] - exact[0])).all()


def test_a_pilot_on_a_density_that_is_nowhere_finite_says_where():
    oracle = LinearGaussian()
    path = oracle.power_posterior(0.0, 4)
    path.x = path.x * math.nan
    with pytest.raises(ValueError, match=r"Pilot: at temperature 0.* has acceptance 0; check that energies and images"):
        run_pilot(path, T[:, 0], MALA(0.1, 1), torch.zeros(4, 3, dtype=DTYPE), torch.Generator(), steps=60)


@pytest.mark.parametrize("kernel", [MALA(0.1, 2), ReplicaExchange(MALA(0.1, 2)), ReplicaExchange(ULA(0.1, 2))])
def test_a_differentiable_run_is_refused(kernel):
    noise = torch.randn(2, 3, 4, kernel.noise_dim(3))
    with pytest.raises(
        ValueError, match=f"^{type(kernel).__name__}: whether a step is accepted has no gradient, so .*"
    ):
        run(kernel, GaussianPrior(), torch.zeros(3, 4, 3), noise, differentiable=True)


@pytest.mark.parametrize("name", TARGETS)
def test_single_precision_makes_the_same_chains(name):
    """But where u is within rounding of the ratio: none of these."""
    target = TARGETS[name]()
    if name in ("power posterior", "power posterior, tilted", "tempered prior"):
        oracle = LinearGaussian("tilted" in name or name == "tempered prior")
        oracle.energy.float(), oracle.generator.float()
        prior = oracle.prior if oracle.energy.matrix.any() else oracle.prior.reference
        x = oracle.images(COUNT).float()
        single = (
            TemperedPrior(prior, T.float())
            if name == "tempered prior"
            else PowerPosterior(prior, oracle.likelihood, x, T.float())
        )
    else:
        density = target.density(COUNT)
        single = density.at(T.float()) if name in PATHS else density
    rng = torch.Generator().manual_seed(3)
    start = target.draw(COUNT, rng)
    noise = torch.randn(6, *start.shape[:-1], start.shape[-1] + 1, generator=rng, dtype=DTYPE)
    double, _ = run(MALA(0.1, 6), target.density(COUNT), start, noise)
    found, _ = run(MALA(0.1, 6), single, start.float(), noise.float())
    assert found.z.dtype == torch.float32
    assert found.terms.values.dtype == torch.float32
    assert torch.equal(found.accepted.double(), double.accepted)
    torch.testing.assert_close(found.z.double(), double.z, rtol=0, atol=1e-4)
