"""The Langevin kernel against the exact law of its chains on Gaussian targets."""

import math
from functools import partial

import pytest
import torch

from benchmarks.memory import peak
from tests.oracle import DTYPE, LinearGaussian
from thermoebm.densities import GaussianLikelihood, GaussianPrior, PowerPosterior, TiltedPrior
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.samplers import ULA, run
from thermoebm.samplers.ula import ULAInfo, ULAState

CHAINS = 100_000


def transition(oracle, t, s):
    """I - s Λ of the kernel on the Gaussian p_t."""
    return (torch.eye(3, dtype=DTYPE) - s * oracle.precision(t)).detach()


@pytest.mark.parametrize("t", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 20])
def test_transient_mean_and_covariance(t, steps):
    """After K steps from N(0, σ0² I), M = I - sΛ: mean (I - M^K) m, covariance σ0² M^2K + 2s Σ_k<K M^2k.

    Standard errors: sqrt(C_ii/n) for a mean and sqrt((C_ii C_jj + C_ij²)/n) for a covariance, n = 100,000 chains.
    """
    oracle, s = LinearGaussian(), 0.02
    rng = torch.Generator().manual_seed(steps)
    start = oracle.prior_sigma * torch.randn(CHAINS, 3, generator=rng, dtype=DTYPE)
    noise = torch.randn(steps, CHAINS, 3, generator=rng, dtype=DTYPE)
    state, _ = run(ULA(s, steps), oracle.power_posterior(t, CHAINS), start, noise)

    m, a = oracle.moments(t)[0].detach(), transition(oracle, t, s)
    power = torch.linalg.matrix_power
    mean = m - power(a, steps) @ m
    covariance = oracle.prior_sigma**2 * power(a, 2 * steps) + 2 * s * sum(power(a, 2 * k) for k in range(steps))
    variances = covariance.diagonal()
    mean_error = (variances / CHAINS).sqrt()
    covariance_error = ((torch.outer(variances, variances) + covariance**2) / CHAINS).sqrt()
    assert ((state.z.mean(0) - mean).abs() < 4 * mean_error).all()
    assert ((torch.cov(state.z.T) - covariance).abs() < 4 * covariance_error).all()


def test_stationary_variance_of_a_standard_normal():
    """Exactly 1 / (1 - s/2), s = 0.5: four thirds. Standard error of a variance: v sqrt(2/n)."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(60, CHAINS, 1, generator=rng, dtype=DTYPE)
    state, _ = run(ULA(0.5, 60), GaussianPrior(1.0), torch.zeros(CHAINS, 1, dtype=DTYPE), noise)
    exact = 1 / (1 - 0.25)
    assert abs(state.z.var() - exact) < 4 * exact * math.sqrt(2 / CHAINS)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_without_noise_the_drift_is_deterministic(t):
    """z_K = m + (I - sΛ)^K (z_0 - m)."""
    oracle, s, steps = LinearGaussian(), 0.02, 15
    start = torch.randn(7, 3, dtype=DTYPE)
    state, _ = run(ULA(s, steps), oracle.power_posterior(t, 7), start, torch.zeros(steps, 7, 3, dtype=DTYPE))
    m = oracle.moments(t)[0].detach()
    expected = m + (start - m) @ torch.linalg.matrix_power(transition(oracle, t, s), steps)
    torch.testing.assert_close(state.z, expected, rtol=0, atol=1e-10)


def test_sampling_touches_no_parameter():
    oracle = LinearGaussian()
    noise = torch.randn(3, 5, 3, dtype=DTYPE)
    state, info = run(ULA(0.01, 3), oracle.power_posterior(1.0, 5), torch.zeros(5, 3, dtype=DTYPE), noise)
    assert not state.z.requires_grad
    assert not info.score.requires_grad
    assert all(parameter.grad is None for parameter in oracle.parameters)


def test_a_differentiable_chain_is_the_same_chain():
    oracle = LinearGaussian()
    start, noise = torch.zeros(5, 3, dtype=DTYPE), torch.randn(4, 5, 3, dtype=DTYPE)
    density = oracle.power_posterior(0.5, 5)
    plain, _ = run(ULA(0.02, 4), density, start, noise)
    recorded, _ = run(ULA(0.02, 4), density, start, noise, differentiable=True)
    torch.testing.assert_close(recorded.z, plain.z, rtol=0, atol=1e-14)
    assert recorded.z.requires_grad


def generator_posterior(dtype: torch.dtype) -> tuple[PowerPosterior, list[torch.nn.Parameter]]:
    """p_t of six images at two temperatures under small networks, and all parameters."""
    torch.manual_seed(0)
    energy, generator = EnergyMLP(4, 8).to(dtype), ConvGenerator(4, (1, 8, 8), 2).to(dtype)
    prior, likelihood = TiltedPrior(energy, GaussianPrior()), GaussianLikelihood(generator)
    t = torch.tensor([[0.3], [1.0]], dtype=dtype)
    density = PowerPosterior(prior, likelihood, torch.rand(6, 1, 8, 8, dtype=dtype), t)
    return density, [*energy.parameters(), *generator.parameters()]


@pytest.mark.parametrize("autocast", [False, True])
def test_the_gradient_of_a_recomputed_chain_is_that_of_its_whole_graph(autocast):
    """With respect to parameters and start; under autocast rounding is the same in both."""
    dtype = torch.float32 if autocast else DTYPE
    density, parameters = generator_posterior(dtype)
    kernel, start = ULA(0.02, 3), torch.randn(2, 6, 4, dtype=dtype, requires_grad=True)
    noise, weights = torch.randn(3, 2, 6, 4, dtype=dtype), torch.randn(2, 6, 4, dtype=dtype)
    assert {*map(id, density.parameters())} == {*map(id, parameters)}

    def whole() -> tuple[ULAState, ULAInfo]:
        state, info = kernel.init(density, start), None
        for epsilon in noise:
            state, info = kernel.step(density, state, epsilon)
        return state, info

    gradients = []
    for chain in (lambda: run(kernel, density, start, noise, differentiable=True), whole):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            state, info = chain()
            # Also of what the same context computes later with weights that it may have rounded before.
            later = density.likelihood.log_prob(density.x, state.z).mean()
        loss = (weights * state.z).sum() + info.score.square().sum() + later
        gradients.append(torch.autograd.grad(loss, [start, *parameters], materialize_grads=True))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4 if autocast else 1e-9, atol=1e-3 if autocast else 1e-9)
    # All but the energy's three biases: it is piecewise linear, so that its score does not depend on them.
    assert sum(bool(expected.any()) for expected in gradients[1]) == len(gradients[1]) - 3


def test_the_memory_of_a_differentiable_chain_does_not_hold_activations():
    """A step more keeps its start and its score, 2 x 6 x 4 numbers each, where its graph has thousands."""
    density, _ = generator_posterior(torch.float32)
    held = {}
    for steps in (4, 12):
        noise, ends = torch.randn(steps, 2, 6, 4), []
        chain = partial(run, ULA(0.02, steps), density, torch.zeros(2, 6, 4), noise, differentiable=True)
        chain()
        held[steps] = peak(lambda chain=chain, ends=ends: ends.append(chain()), torch.device("cpu"))
    assert held[12] - held[4] <= 8 * 4 * noise[0].nbytes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        *[((s, 10), f"step_size is {s}; it must be positive and finite") for s in (0.0, -0.1, math.inf, math.nan)],
        *[((0.1, k), f"num_steps is {k}") for k in (0, math.inf, math.nan)],
    ],
)
def test_impossible_kernels(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ULA(*arguments)
