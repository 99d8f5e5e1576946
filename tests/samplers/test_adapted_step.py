"""The step size of MALA that follows the model: its recursion, where it settles, and that only training moves it."""

import math

import pytest
import torch

from tests.modules.test_persistent_training import digits, fit
from tests.oracle import DTYPE
from thermoebm.densities import GaussianPrior
from thermoebm.samplers import MALA, ULA, ReplicaExchange, run


def adapted(kernel):
    return kernel.current_step_size()


def test_a_step_size_moves_by_the_gain_times_the_distance_from_the_target():
    kernel = MALA(0.1, 5, target_acceptance=0.5, gain=0.2)
    kernel.after_step({"acceptance": torch.tensor(0.9)})
    assert adapted(kernel) == pytest.approx(0.1 * math.exp(0.2 * 0.4))
    kernel.after_step({"acceptance": torch.tensor([0.1, 0.3])})  # of a ladder, t = 1
    assert adapted(kernel) == pytest.approx(0.1 * math.exp(0.2 * 0.2))
    fixed = MALA(0.1, 5)
    fixed.after_step({"acceptance": torch.tensor(0.9)})
    assert adapted(fixed) == 0.1


@pytest.mark.parametrize("start", [0.02, 30.0])
def test_it_settles_where_chains_have_the_target_acceptance(start):
    """On N(0, 2² I) with d = 20, from either side: .574 within 4 standard errors, measured at the frozen size."""
    density, rng = GaussianPrior(2.0), torch.Generator().manual_seed(0)
    kernel = MALA(start, 5, target_acceptance=0.574, gain=0.2)
    z = 2 * torch.randn(400, 20, dtype=DTYPE, generator=rng)

    def chain(z):
        noise = torch.randn(5, 400, 21, dtype=DTYPE, generator=rng)
        state, _ = run(kernel, density, z, noise)
        return state.z, kernel.rates(state, 5)

    for _ in range(120):
        z, rates = chain(z)
        kernel.after_step({name: rate.mean(-1) for name, rate in rates.items()})
    z, rates = chain(z)
    acceptance, error = rates["acceptance"].mean().item(), (0.574 * 0.426 / 2000) ** 0.5
    assert abs(acceptance - 0.574) < 4 * error + 0.01  # the size itself still moves by about a percent
    assert z.square().mean().item() == pytest.approx(4, rel=4 * (2 / 8000) ** 0.5)


def test_chains_take_the_adapted_size():
    kernel, density = MALA(0.1, 4, target_acceptance=0.574), GaussianPrior(1.0)
    rng = torch.Generator().manual_seed(0)
    z, noise = torch.randn(3, 2, generator=rng), torch.randn(4, 3, 3, generator=rng)
    kernel.adapted.log_size.fill_(math.log(0.7))
    torch.testing.assert_close(run(kernel, density, z, noise)[0].z, run(MALA(0.7, 4), density, z, noise)[0].z)


def test_only_training_moves_it_and_it_is_resumed(small_model, tmp_path):
    """It is in the checkpoint; a resumed run is the uninterrupted one, bit for bit."""

    def model():
        return small_model(prior_sampler=MALA(0.1, 3, target_acceptance=0.574, gain=0.3))

    whole, first, second = model(), model(), model()
    fit(whole, digits(augment="none"), 2, limit_val_batches=2)
    assert adapted(whole.prior_sampler) != pytest.approx(0.1)
    before = adapted(whole.prior_sampler)
    whole.generate(5, whole.stream("x"))
    whole.loss(torch.zeros(4, 1, 8, 8), whole.stream("x"))
    assert adapted(whole.prior_sampler) == before
    fit(first, digits(augment="none"), 1).save_checkpoint(tmp_path / "one.ckpt")
    fit(second, digits(augment="none"), 2, ckpt_path=tmp_path / "one.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert "sampler_states.prior.log_size" in whole.state_dict()


def test_a_kernel_within_exchange_is_adapted_too():
    exchange = ReplicaExchange(MALA(0.1, 5, target_acceptance=0.5, gain=0.2))
    assert exchange.state() is exchange.kernel.state()
    exchange.after_step({"acceptance": torch.tensor([0.5, 1.0]), "swap": torch.tensor([0.3])})
    assert adapted(exchange) == pytest.approx(0.1 * math.exp(0.1))
    assert ReplicaExchange(ULA(0.1, 5)).state() is None


@pytest.mark.parametrize(("target", "gain"), [(0.0, 0.05), (1.0, 0.05), (math.nan, 0.05), (0.5, 0.0), (0.5, math.inf)])
def test_values_that_cannot_work_are_refused(target, gain):
    with pytest.raises(ValueError, match=r"MALA: target_acceptance is .* between 0 and 1"):
        MALA(0.1, 5, target, gain)
