"""The prior's short chains against closed forms of a quadratic energy, where all laws are Gaussian."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import norm

from tests.oracle import LinearGaussian
from thermoebm.callbacks import PriorStability
from thermoebm.callbacks.prior_stability import energy_distance
from thermoebm.modules import LatentEBM
from thermoebm.samplers import MALA, ULA


def measured(sampler, count=4000):
    """What is logged of the oracle's tilted prior, and its precision's eigenvalues (d,)."""
    oracle = LinearGaussian(True)
    model = LatentEBM(
        oracle.energy, oracle.generator, prior_sampler=sampler, prior_sigma=oracle.prior_sigma, compile="off"
    )
    logged = {}
    model.log_dict = lambda scalars, sync_dist: logged.update(scalars)
    strategy = SimpleNamespace(broadcast=lambda scalars: scalars)
    trainer = SimpleNamespace(
        is_global_zero=True, strategy=strategy, current_epoch=4, max_epochs=100, global_step=5, max_steps=-1
    )
    PriorStability(count=count, products=40).on_train_epoch_end(trainer, model)
    logged = {name.removeprefix("prior/"): value for name, value in logged.items()}
    return logged, torch.linalg.eigvalsh(oracle.precision(0.0)), oracle


def test_curvature_is_the_precisions_largest_eigenvalue_times_the_step():
    found, eigenvalues, _ = measured(ULA(0.05, 3), count=50)
    assert found["step_times_curvature"] == pytest.approx(0.05 * eigenvalues.max().item(), rel=1e-3)
    assert found["step_times_curvature_max"] == pytest.approx(found["step_times_curvature"], rel=1e-3)


def test_gap_is_that_of_the_gaussian_laws_after_k_and_ten_k_steps():
    """Whose moments follow a linear recursion; within 4 standard errors, which those of the two expectations bound."""
    step, steps = 0.02, 5
    found, _, oracle = measured(ULA(step, steps))
    precision = oracle.precision(0.0)
    mean, covariance = torch.zeros_like(precision[0]), oracle.prior_sigma**2 * torch.eye(len(precision)).to(precision)
    target, _ = oracle.moments(0.0)
    contraction = torch.eye(len(precision)).to(precision) - step * precision
    expected, spread = {}, {}
    for k in range(1, 10 * steps + 1):
        mean = target + contraction @ (mean - target)
        covariance = contraction @ covariance @ contraction.T + 2 * step * torch.eye(len(mean)).to(precision)
        if k in (steps, 10 * steps):
            draws = torch.distributions.MultivariateNormal(mean, covariance).sample((200_000,))
            energies = oracle.energy(draws)
            expected[k], spread[k] = energies.mean().item(), energies.std().item()
    gap = expected[10 * steps] - expected[steps]
    error = math.hypot(spread[steps], spread[10 * steps]) * math.sqrt(1 / 4000 + 1 / 200_000)
    assert found["longer_chain_gap"] == pytest.approx(gap, abs=4 * error)
    assert abs(gap) > 8 * error  # or the chains would have settled, and nothing were tested
    assert found["longer_chain_distance"] > 0


def test_chains_that_have_settled_show_no_gap():
    found, _, _ = measured(MALA(0.05, 30), count=400)
    assert found["longer_chain_distance"] == pytest.approx(0, abs=0.02)


def test_energy_distance_is_twice_the_integral_of_squared_distribution_functions():
    """In one dimension 2 ∫ (F - G)² dx (Székely & Rizzo 2013, equation 2.5), for two normals by the trapezium."""
    rng = torch.Generator().manual_seed(0)
    pairs = torch.randn(60, 2, 300, 1, generator=rng, dtype=torch.float64)
    found = torch.stack([energy_distance(x, 0.7 + 1.3 * y) for x, y in pairs])
    grid = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    difference = norm.cdf(grid) - norm.cdf((grid - 0.7) / 1.3)
    exact = 2 * torch.trapezoid(torch.as_tensor(difference) ** 2, grid).item()
    error = found.std().item() / 60**0.5  # of an unbiased estimate
    assert error < 0.03 * exact
    assert found.mean().item() == pytest.approx(exact, abs=4 * error)
    same = torch.stack([energy_distance(x, y) for x, y in pairs])
    assert same.mean().item() == pytest.approx(0, abs=4 * same.std().item() / 60**0.5)


def test_a_latent_is_not_compared_with_where_it_went():
    """Unbiased for chains that stay: all pairs of different chains, by loops."""
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert energy_distance(x, x).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("fields", [{"every_n_epochs": -1}, {"count": 1}, {"products": 0}])
def test_numbers_too_small_are_refused(fields):
    with pytest.raises(ValueError, match="PriorStability: every_n_epochs is"):
        PriorStability(**fields)
