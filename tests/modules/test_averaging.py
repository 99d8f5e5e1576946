"""Averaged weights: their recursion in closed form, what is measured with them, and that training is the same."""

import copy

import pytest
import torch

from tests.modules.test_persistent_training import digits, fit
from thermoebm.modules.averaging import AveragedWeights


def test_average_is_the_weighted_sum_of_all_weights():
    """θ̄_n as a sum over past parameters, with weights multiplied out by hand in float64; at first it is θ."""
    rng = torch.Generator().manual_seed(0)
    path = torch.randn(40, 3, generator=rng, dtype=torch.float64)
    parameter = torch.nn.Parameter(path[0].clone())
    averaged = AveragedWeights([parameter], 0.9)
    for value in path[1:]:
        with torch.no_grad():
            parameter.copy_(value)
        averaged.update([parameter])
    rates = [min(0.9, n / (n + 9)) for n in range(1, 40)]
    weights = [torch.tensor(rates).double().prod().item()]  # of the start
    for n, rate in enumerate(rates):
        weights.append((1 - rate) * torch.tensor([1.0, *rates[n + 1 :]]).double().prod().item())
    assert sum(weights) == pytest.approx(1, abs=1e-6)
    expected = (torch.tensor(weights).double().unsqueeze(1) * path).sum(0)
    torch.testing.assert_close(dict(averaged.named_buffers())["average_0"], expected, rtol=1e-6, atol=1e-6)


def test_training_is_the_same_and_weights_come_back_bit_for_bit(small_model):
    """With an average, validated with it, and without one."""
    plain, averaged = small_model(), small_model(average_decay=0.9)
    for model in (plain, averaged):
        fit(model, digits(augment="none"), 2, limit_val_batches=1, num_sanity_val_steps=0)
    for one, other in zip(plain.weights(), averaged.weights(), strict=True):
        assert torch.equal(one, other)
    before = [w.detach().clone() for w in averaged.weights()]
    with averaged.averaged_weights():
        assert not all(map(torch.equal, before, averaged.weights()))
    assert all(map(torch.equal, before, averaged.weights()))


def test_samples_and_validation_are_of_the_averaged_weights(small_model):
    """Those of a second model that was given the averages as its own weights."""
    model = small_model(average_decay=0.9)
    trainer = fit(model, digits(augment="none"), 2, limit_val_batches=1, num_sanity_val_steps=0)
    other = small_model()
    for weight, average in zip(other.weights(), model.averaged._averages(), strict=True):
        weight.data.copy_(average)
    (validated,) = trainer.validate(model, digits(augment="none"), verbose=False)
    (expected,) = trainer.validate(other, digits(augment="none"), verbose=False)
    assert validated == expected
    with model.averaged_weights():
        samples = model.generate(3, model.stream("x"))
    assert torch.equal(samples, other.generate(3, other.stream("x")))
    assert not torch.equal(samples, model.generate(3, model.stream("x")))


def test_a_resumed_average_is_the_uninterrupted_one(small_model, tmp_path):
    whole = small_model(average_decay=0.9)
    fit(whole, digits(), 3)
    first, second = small_model(average_decay=0.9), small_model(average_decay=0.9)
    fit(first, digits(), 1).save_checkpoint(tmp_path / "one.ckpt")
    fit(second, digits(), 3, ckpt_path=tmp_path / "one.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert whole.averaged.updates == 9


def test_a_copy_has_an_average_of_its_own(small_model):
    model = small_model(average_decay=0.9)
    twin = copy.deepcopy(model)
    for weight in twin.weights():
        weight.data.add_(1)
    twin.averaged.update(twin.weights())
    for mine, its, weight in zip(model.averaged._averages(), twin.averaged._averages(), model.weights(), strict=True):
        assert torch.equal(mine, weight)
        torch.testing.assert_close(its, weight + 0.9, rtol=0, atol=1e-6)  # r_1 = 1/10


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0, float("nan")])
def test_a_decay_that_cannot_be_one_is_refused(small_model, decay):
    with pytest.raises(ValueError, match=r"average_decay is .*between 0 and 1"):
        small_model(average_decay=decay)
