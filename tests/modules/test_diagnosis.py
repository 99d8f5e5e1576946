"""The diagnosis of chains against closed-form laws of short and corrected chains, in the linear-Gaussian model."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from tests.modules.test_latent_ebm import langevin_law, of
from tests.oracle import DTYPE, LinearGaussian
from thermoebm.modules.diagnosis import Difference, Trace, diagnose
from thermoebm.samplers import MALA, ULA, ReplicaExchange
from thermoebm.samplers.diagnostics import effective_sample_size, split_rhat

STEP, K = 0.01, 8


def diagnosed(oracle, images=40, **arguments):
    model = of(oracle, None, K, STEP)
    return diagnose(model, oracle.images(images), lambda i: model.stream("test", i), **arguments)


@pytest.fixture(scope="module")
def oracle():
    return LinearGaussian()


@pytest.fixture(scope="module")
def found(oracle):
    """Forty times the same image, so that the standard error over images is that of the chains."""
    return diagnosed(oracle, long_steps=800)


def expected(oracle, mean, covariance):
    """E[ℓ] and E[f] of z ~ N(mean, covariance)."""
    w, a, c = oracle.generator.weight, oracle.energy.matrix, oracle.energy.linear
    residual, sigma = oracle.x - oracle.generator.bias - w @ mean, oracle.likelihood_sigma
    squared = residual @ residual + torch.trace(w @ covariance @ w.T)
    ell = -squared / (2 * sigma**2) - len(oracle.x) / 2 * math.log(2 * math.pi * sigma**2)
    f = -(torch.trace(a @ covariance) + mean @ a @ mean) / 2 + c @ mean
    return {"log_likelihood": ell.item(), "energy": f.item()}


@pytest.mark.parametrize(("density", "t"), [("posterior", 1.0), ("prior", 0.0)])
def test_gaps_are_those_between_the_law_of_short_chains_and_the_density(oracle, found, density, t):
    """E of K steps of unadjusted Langevin from π0, minus E_t, of ℓ and f."""
    short, exact = expected(oracle, *langevin_law(oracle, t, STEP, K)), expected(oracle, *oracle.moments(t))
    scalars = found[density].scalars()
    names = ["log_likelihood", "energy"] if density == "posterior" else ["energy"]
    assert [name for name in scalars if name.endswith("_gap")] == [f"{name}_gap" for name in names]
    for name in names:
        error = scalars[f"{name}_gap_se"]
        assert abs(scalars[f"{name}_gap"] - (short[name] - exact[name])) < 4 * error
        # It would see another law; but f of the posterior is nearly right after K steps.
        assert 0 < error < max(0.02, 0.25 * abs(short[name] - exact[name]))


@pytest.mark.parametrize(("density", "t"), [("posterior", 1.0), ("prior", 0.0)])
def test_short_chains_have_their_law_at_every_step(oracle, found, density, t):
    """Latents after 1 .. K steps: mean and variance within 4.5 standard errors, 160 chains."""
    short = found[density].short
    assert short.steps.tolist() == list(range(1, K + 1))
    assert short.z.shape == ((4, K, 40, 3) if density == "posterior" else (160, K, 1, 3))
    z = short.z.transpose(0, 1).reshape(K, 160, 3)
    for k in range(K):
        mean, covariance = langevin_law(oracle, t, STEP, k + 1)
        variance = covariance.diagonal()
        assert ((z[k].mean(0) - mean).abs() < 4.5 * (variance / 160).sqrt()).all()
        assert ((z[k].var(0) - variance).abs() < 4.5 * variance * math.sqrt(2 / 160)).all()


@pytest.mark.parametrize(("density", "t"), [("posterior", 1.0), ("prior", 0.0)])
def test_long_chains_sample_the_density_and_say_so(oracle, found, density, t):
    """Moments, R-hat near 1, the tuned acceptance, no drift; R-hat of the short chains is far from 1."""
    diagnosis, (mean, covariance) = found[density], (m.detach() for m in oracle.moments(t))
    z = diagnosis.judged.z
    chains = z.mean(1).flatten(0, 1)
    assert ((chains.mean(0) - mean).abs() < 4 * chains.std(0) / len(chains) ** 0.5).all()
    variances = (z - mean).square().mean(1).flatten(0, 1)
    assert ((variances.mean(0) - covariance.diagonal()).abs() < 4 * variances.std(0) / len(variances) ** 0.5).all()
    scalars = diagnosis.scalars()
    assert scalars["acceptance"] == pytest.approx(0.574, abs=0.08)
    assert scalars["rhat"] < 1.02
    assert scalars["short_rhat"] > 1.3
    for name in diagnosis.short.values:
        drift = diagnosis.drift(name)
        assert abs(drift.mean) < 4 * drift.standard_error
        assert drift.standard_error < 0.15


def test_long_chains_go_on_where_the_short_ones_ended(found):
    """Where the first proposal was rejected, which is about every second, the latent is still the same."""
    for diagnosis in found.values():
        assert diagnosis.long.steps[0] == K + 1
        stayed = (diagnosis.long.z[:, 0] == diagnosis.short.z[:, -1]).all(-1).double().mean()
        assert 0.2 < stayed < 0.7


def test_values_are_those_of_the_latents(oracle, found):
    """ℓ and f at the latents that are kept, chain by chain and image by image."""
    for density, diagnosis in found.items():
        for trace in (diagnosis.short, diagnosis.long, diagnosis.judged):
            shape = (len(trace.z), len(trace.steps), trace.z.shape[2])
            assert {value.shape for value in trace.values.values()} == {shape}
            torch.testing.assert_close(trace.values["energy"], oracle.energy(trace.z).detach())
            if density == "posterior":
                ell = oracle.likelihood.log_prob(oracle.images(40), trace.z).detach()
                torch.testing.assert_close(trace.values["log_likelihood"], ell)


def test_each_image_has_its_own_chains():
    """Images that are far apart: each posterior mean is that of its own image."""
    oracle = LinearGaussian(tilted=False)
    model, x = of(oracle, None, K, STEP), torch.stack([oracle.images(1)[0] + shift for shift in (-2.0, 0.0, 3.0)])
    found = diagnose(model, x, lambda i: model.stream("test", i), long_steps=600)["posterior"]
    precision, w = oracle.precision(1.0), oracle.generator.weight
    pull = (x.flatten(1) - oracle.generator.bias) @ w / oracle.likelihood_sigma**2
    means = torch.linalg.solve(precision, pull.T).T.detach()
    deviation = torch.linalg.inv(precision).diagonal().sqrt().detach()
    assert ((found.judged.z.mean((0, 1)) - means).abs() < 0.25 * deviation).all()


def test_the_second_half_is_judged_at_even_distances(oracle, monkeypatch):
    monkeypatch.setattr("thermoebm.modules.diagnosis._DRAWS", 20)
    monkeypatch.setattr("thermoebm.modules.diagnosis._PILOT", 20)
    for long_steps, distance in ((8, 1), (39, 1), (41, 2), (100, 3)):
        diagnosis = diagnosed(oracle, 2, long_steps=long_steps)["prior"]
        steps = diagnosis.judged.steps - K
        assert steps[-1] == diagnosis.long.steps[-1] - K == long_steps
        assert steps.diff().unique().tolist() == [distance]
        assert long_steps / 2 < steps[0] <= long_steps / 2 + distance
        assert diagnosis.long.steps.diff().min() > 0
        assert diagnosis.long.steps[0] == K + 1


def test_effective_sample_size_counts_steps_and_not_states():
    """Every state of a chain, or every fifth: the same draws for each step, as long as they are correlated enough."""
    noise = math.sqrt(1 - 0.95**2) * np.random.default_rng(0).standard_normal((4, 10_000, 3, 2))
    z = torch.from_numpy(lfilter([1.0], [1.0, -0.95], noise, axis=1))
    every = Trace(torch.arange(10_000), {"energy": z[..., 0]}, z)
    fifth = every.at(torch.arange(10_000) % 5 == 0)
    exact = 0.05 / 1.95
    for trace in (every, fifth):
        assert trace.ess_per_step["energy"] == pytest.approx([exact] * 3, rel=0.2)
        sizes, rhats = effective_sample_size(trace.z), split_rhat(trace.z)
        torch.testing.assert_close(trace.ess_per_step["latents"], sizes.min(-1).values / 40_000)
        torch.testing.assert_close(trace.rhat["latents"], rhats.max(-1).values)


def test_a_difference_is_paired_by_image_or_of_one_image_by_chain():
    pairs = torch.tensor([[1.0, 5.0, 3.0], [3.0, 5.0, 7.0]], dtype=DTYPE)  # means by image 2, 5, 5
    assert Difference.of(pairs) == pytest.approx((4.0, math.sqrt(3) / math.sqrt(3)))
    assert Difference.of(pairs[:, :1]) == pytest.approx((2.0, math.sqrt(2) / math.sqrt(2)))


def test_chains_start_where_those_of_training_do(oracle, monkeypatch):
    """At π0, or at the ends of prior chains; steps of 1e-6 hardly move."""
    for start, deviation in (("reference", oracle.prior_sigma), ("prior_chain", 7.0), ("persistent", 1.2)):
        model = of(oracle, None, 4, 1e-6)
        model.chain_start = start
        monkeypatch.setattr(model, "sample_prior", lambda n, rng: 7 * torch.randn(n, 3, generator=rng, dtype=DTYPE))
        found = diagnose(model, oracle.images(50), lambda i, m=model: m.stream("test", i), long_steps=8)
        assert found["posterior"].short.z[:, 0].std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * 600))
        assert found["prior"].short.z[:, 0].std() == pytest.approx(oracle.prior_sigma, rel=4 / math.sqrt(2 * 600))


@pytest.mark.parametrize("kernel", [MALA(0.02, 8), ReplicaExchange(ULA(0.02, 8))])
def test_any_kernel_of_the_model_is_diagnosed(oracle, kernel):
    model = of(oracle, None, 8, 0.02)
    model.posterior_sampler = kernel
    found = diagnose(model, oracle.images(10), lambda i: model.stream("test", i), long_steps=100)
    moved = found["posterior"].short.z.diff(dim=1)
    assert (moved.square().mean((0, 1, 2)) < 4 * 0.02 * 3).all()  # steps of one chain: replicas do not change places
    assert moved.abs().amax((1, 2, 3)).min() > 0


def test_short_chains_run_in_the_precision_of_training_and_long_ones_in_their_own(small_model):
    model, seen = small_model(), []
    model.generator.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        found = diagnose(model, torch.zeros(2, 1, 8, 8), lambda i: model.stream("test", i), long_steps=20)
    assert seen[: model.posterior_sampler.num_steps] == [True] * model.posterior_sampler.num_steps
    assert not any(seen[model.posterior_sampler.num_steps :])
    assert found["posterior"].long.z.dtype == DTYPE


@pytest.mark.parametrize("arguments", [{"chains": 1}, {"long_steps": 7}])
def test_too_little_is_refused(oracle, arguments):
    with pytest.raises(ValueError, match=r"Diagnosis: \d chains .* give 2 chains and 8 steps at least"):
        diagnosed(oracle, **arguments)
