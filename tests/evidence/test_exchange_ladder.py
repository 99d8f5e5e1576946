"""The stepping stone of a ladder with replica exchange against the evidence in closed form."""

import pytest
import torch

from tests.oracle import DTYPE, LinearGaussian
from tests.samplers.densities import Bimodal
from thermoebm import evidence
from thermoebm.densities import PowerPosterior
from thermoebm.samplers import MALA, ReplicaExchange, StepSizes
from thermoebm.schedules import power_law

LADDERS = 30


def tuned(oracle, t):
    stiffness = [torch.linalg.eigvalsh(oracle.precision(float(v)))[-1] for v in t]
    return MALA(1.0, 1).tuned(StepSizes(t, 1 / torch.stack(stiffness).detach()))


@pytest.mark.parametrize("tilted", [False, True])
def test_it_is_the_evidence_within_four_standard_errors(tilted):
    """Of two images, from exact draws at every temperature; the mean log-likelihoods as well."""
    oracle, t, rng = LinearGaussian(tilted), power_law(7, 3.0), torch.Generator().manual_seed(0)
    images = torch.stack([oracle.x, -oracle.x])
    path = PowerPosterior(oracle.prior, oracle.likelihood, images.view(2, 1, 2, 3), torch.zeros((), dtype=DTYPE))
    truth, expected, starts, variance = [], [], [], []
    for x in images:
        oracle.x = x
        truth.append(oracle.log_evidence().detach())
        expected.append(oracle.over(t, "expected_log_likelihood"))
        variance.append(oracle.over(t, "variance_of_log_likelihood"))
        starts.append(torch.stack([oracle.sample(float(v), LADDERS, rng) for v in t]))
    found = evidence.exchange_ladder(path, t, tuned(oracle, t), torch.stack(starts, 2), rng, steps=300, burn_in=0)
    assert found.value.shape == found.standard_error.shape == (2,)
    assert ((found.value - torch.stack(truth)).abs() < 4 * found.standard_error).all()
    assert (found.standard_error < 0.1).all()
    # Chains of 300 steps whose draws are independent after 10 have the mean of 30 independent ones.
    error = (torch.stack(variance, 1) / (LADDERS * 30)).sqrt()
    assert ((found.expected - torch.stack(expected, 1)).abs() < 4 * error).all()
    assert found.rates["acceptance"].shape == (8,)
    assert ((found.rates["swap"] > 0.05) & (found.rates["swap"] < 1)).all()
    assert found.rates["round_trips"].shape == (1,)


def test_one_step_is_pooled_over_ladders_as_in_stepping_stone():
    t, path = power_law(5, 1.0), Bimodal(torch.zeros((), dtype=DTYPE))
    z = torch.randn(6, 4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    found = evidence.exchange_ladder(path, t, MALA(1e-17, 1), z, torch.Generator(), steps=1, burn_in=0)
    kernel, density = ReplicaExchange(MALA(1e-17, 1)), path.at(t.view(-1, 1, 1))
    noise = torch.randn(6, 4, 3, 4, generator=torch.Generator(), dtype=DTYPE)
    state, _ = kernel.step(density, kernel.init(density, z), noise)
    torch.testing.assert_close(found.value, evidence.stepping_stone(t, density.tempered(state.z)))


def test_its_error_is_that_of_repetitions():
    """40 ladders as 10 runs of 4 each, at once: what differs between runs is what each says. Known to a fourth."""
    oracle, t, rng = LinearGaussian(), power_law(5, 3.0), torch.Generator().manual_seed(1)
    starts = torch.stack([oracle.sample(float(v), 400, rng).view(10, 40, 3) for v in t])
    path = oracle.power_posterior(0.0, 40)
    found = evidence.exchange_ladder(path, t, tuned(oracle, t), starts, rng, steps=60, burn_in=5)
    assert found.value.shape == (40,)
    said = found.standard_error.square().mean().sqrt().item()
    assert found.value.std().item() == pytest.approx(said, rel=0.45)
    assert abs(found.value.mean() - oracle.log_evidence()) < 4 * found.value.std() / 40**0.5 + said**2


def test_the_burn_in_is_left_out():
    """Ladders that start in one of two modes at ±4: with m = 4 the ratio is exp(8), and E_1[a] - E_0[a] is known.

    Without a burn-in they are off by more than 4 standard errors of those with one.
    """
    t, rng = torch.linspace(0, 1, 8, dtype=DTYPE), torch.Generator().manual_seed(0)
    path, start = Bimodal(torch.zeros((), dtype=DTYPE), 4.0, 0.3), torch.full((8, LADDERS, 1, 2), 8.0, dtype=DTYPE)
    told = []
    found = evidence.exchange_ladder(path, t, MALA(0.8, 1), start, rng, steps=200, burn_in=100, progress=told.append)
    assert sum(told) == 300
    assert abs(found.value - 8) < 4 * found.standard_error
    early = evidence.exchange_ladder(path, t, MALA(0.8, 1), start, rng, steps=10, burn_in=0)
    assert abs(early.value - 8) > 4 * found.standard_error


@pytest.mark.parametrize(("steps", "burn_in", "ladders"), [(0, 1, 2), (1, -1, 2), (1, 0, 1)])
def test_what_is_no_ladder_is_told(steps, burn_in, ladders):
    path, z = Bimodal(torch.zeros(())), torch.zeros(3, ladders, 1, 2)
    arguments = {"steps": steps, "burn_in": burn_in}
    with pytest.raises(ValueError, match=f"has {steps} steps, a burn-in of {burn_in} and {ladders} replicas for each"):
        evidence.exchange_ladder(path, power_law(2, 1.0), MALA(0.1, 1), z, torch.Generator(), **arguments)
    with pytest.raises(ValueError, match=r"Exchange: the temperatures go from 0.5 to 1; they must begin at 0"):
        evidence.exchange_ladder(path, torch.tensor([0.5, 1.0]), MALA(0.1, 1), z, torch.Generator(), steps=1, burn_in=0)
