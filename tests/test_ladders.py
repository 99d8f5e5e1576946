"""Temperatures at equal thermodynamic length, on a model in which it is known, and schedules that learn them."""

import math

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.isotonic import IsotonicRegression

from tests.oracle import DTYPE, LinearGaussian
from thermoebm import evidence
from thermoebm.data import Digits
from thermoebm.gradients import draw_gradient
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.objectives.gaussian_kl import gaussian_kl
from thermoebm.samplers import ULA
from thermoebm.schedules import Adaptive, PowerLaw, equal_length, power_law

#: What a model keeps of an adaptive schedule.
KEPT = {"objective_state.points", "objective_state.variances"}


class StrongLikelihood(LinearGaussian):
    """Thermodynamic length 9.4; at p = 1 most of it is in the first interval."""

    likelihood_sigma = 0.05


FINE = torch.linspace(0, 1, 2001, dtype=DTYPE) ** 4


@pytest.fixture(scope="module", params=[LinearGaussian, StrongLikelihood])
def oracle(request):
    return request.param()


@pytest.fixture(scope="module")
def lengths(oracle):
    """∫ Var_t^½ dt of each interval of a ladder, by a fine trapezium in closed forms."""
    speed = oracle.over(FINE, "variance_of_log_likelihood").sqrt()
    total = np.concatenate([[0], ((speed[1:] + speed[:-1]) / 2 * FINE.diff()).cumsum(0)])
    return lambda t: np.diff(np.interp(t.numpy(), FINE.numpy(), total))


def placed(oracle, pilot, intervals=10, **arguments):
    return equal_length(pilot, oracle.over(pilot, "expected_log_likelihood"), intervals, **arguments)


def at_rest(oracle, intervals=10):
    """The ladder that stays as it is when it is its own pilot."""
    t = power_law(intervals, 6.0)
    for _ in range(100):
        t = placed(oracle, t, intervals)
    return t


def test_lengths_become_even_as_the_pilot_becomes_finer(oracle, lengths):
    """Their unevenness falls as the square of the pilot's number of points, to the share that all intervals have."""
    sizes = (20, 40, 80, 160)
    uneven = []
    for size in sizes:
        found = lengths(placed(oracle, power_law(size, 3.0), share=1e-9))
        uneven.append(float(abs(found / found.mean() - 1).max()))
    order = -np.polyfit(np.log(sizes), np.log(uneven), 1)[0]
    assert order > 1.6
    assert uneven[-1] < 3e-3
    found = lengths(placed(oracle, power_law(160, 3.0)))
    assert abs(found / found.mean() - 1).max() < 5e-3


def test_at_rest_neighbours_have_the_same_divergence(oracle):
    """Δ_i (E_i - E_{i-1}) is KL(p_{i-1}‖p_i) + KL(p_i‖p_{i-1}), here by the formula for Gaussians."""
    t = at_rest(oracle)
    means, covariances = map(torch.stack, zip(*(oracle.moments(float(each)) for each in t), strict=True))
    lower, upper = (means[:-1], covariances[:-1]), (means[1:], covariances[1:])
    both = (gaussian_kl(*lower, *upper) + gaussian_kl(*upper, *lower)).detach()
    torch.testing.assert_close(both, both.mean().expand(10), rtol=1e-8, atol=0)


def test_neither_the_zero_nor_the_unit_of_the_log_likelihood_matters(oracle):
    pilot = power_law(30, 3.0)
    expected = oracle.over(pilot, "expected_log_likelihood")
    t = equal_length(pilot, expected, 17)
    for changed in (expected - 1e4, 1e5 * expected, 1e-5 * expected):
        torch.testing.assert_close(equal_length(pilot, changed, 17), t, rtol=1e-9, atol=0)


def test_the_trapezium_is_nearer_than_on_even_temperatures(oracle):
    """With as many: by a factor of 7, and of 140 where the likelihood is strong."""
    exact, errors = float(oracle.log_evidence().detach()), []
    for t in (placed(oracle, power_law(100, 4.0)), power_law(10, 1.0)):
        estimate = evidence.trapezium(t, oracle.over(t, "expected_log_likelihood"))
        errors.append(abs(float(estimate) - exact))
    assert errors[0] < errors[1] / (6 if type(oracle) is LinearGaussian else 100)


@pytest.mark.parametrize("seed", range(5))
def test_estimates_are_made_monotone_by_isotonic_regression(seed):
    """As scikit-learn computes it; steps of pooled estimates have no length, up to the share of each."""
    rng = torch.Generator().manual_seed(seed)
    pilot = power_law(40, 2.0)
    noisy = 30 * pilot.sqrt() + 4 * torch.randn(41, generator=rng, dtype=DTYPE) - 1e3
    monotone = torch.from_numpy(IsotonicRegression().fit_transform(np.arange(41), noisy.numpy()))
    assert not torch.equal(noisy, monotone)
    torch.testing.assert_close(equal_length(pilot, noisy, 25), equal_length(pilot, monotone, 25), rtol=1e-7, atol=0)


def test_what_has_no_length_still_has_distinct_temperatures():
    """Thousands of them, where all that is measured lies in one interval; and the pilot's own where nothing is."""
    pilot = power_law(20, 6.0)
    jump = (torch.arange(21) > 10).double()
    t = equal_length(pilot, 50 * jump, 5000)
    assert (t[0], t[-1], len(t)) == (0, 1, 5001)
    assert (t.diff() > 0).all()
    assert ((pilot[10] < t) & (t < pilot[11])).double().mean() > 0.99
    assert t[1] < pilot[10] < pilot[11] < t[-2]  # and none of the rest is left without any
    for flat in (torch.zeros(21), torch.linspace(0, -9, 21)):
        torch.testing.assert_close(equal_length(pilot, flat, 20), pilot)


@pytest.mark.parametrize(
    ("temperatures", "expected", "intervals", "sentence"),
    [
        ([0, 1], [1.0], 3, r"\(2,\) temperatures, \(1,\) expected"),
        ([0, 1], [1.0, 2.0], 0, "0 intervals"),
        ([0, 0.5], [1.0, 2.0], 3, "equal_length: the temperatures go from 0 to 0.5"),
        ([0, 1], [1.0, math.inf], 3, "not finite; give finite nats"),
    ],
)
def test_what_is_no_pilot_is_told(temperatures, expected, intervals, sentence):
    with pytest.raises(ValueError, match=sentence):
        equal_length(torch.tensor(temperatures, dtype=DTYPE), torch.tensor(expected), intervals)


def test_adaptive_temperatures_converge_under_noise(oracle):
    """To the ladder at rest, from even temperatures. A mean has a standard error of a tenth of the rise before it.

    Means of log t over 400 updates, in batches of 40, which outlast the memory of 1/r = 10 updates: within 4 standard
    errors (at most 2 % each) and 0.5 % for a bias of second order in the noise.
    """
    rng, rest = torch.Generator().manual_seed(0), at_rest(oracle, 6)
    rises = oracle.over(rest, "expected_log_likelihood").diff()
    noise = 0.1 * torch.cat([rises[:1], rises])
    schedule, path = Adaptive(6, 1.0, rate=0.1), []
    for step in range(550):
        expected = oracle.over(schedule.temperatures(), "expected_log_likelihood")
        schedule.update(expected + noise * torch.randn(7, generator=rng, dtype=DTYPE))
        assert (schedule.temperatures().diff() > 0).all()
        path += [schedule.temperatures()[1:-1].log()] if step >= 150 else []
    means = torch.stack(path).unflatten(0, (10, 40)).mean(1)
    error = means.std(0) / math.sqrt(10)
    assert error.max() < 0.02
    assert ((means.mean(0) - rest[1:-1].log()).abs() < 4 * error + 0.005).all()


def test_an_update_is_the_share_of_the_way_that_the_rate_says(oracle):
    schedule = Adaptive(5, 2.0, rate=0.25)
    before = schedule.temperatures()
    expected = oracle.over(before, "expected_log_likelihood")
    schedule.update(expected)
    target = equal_length(before, expected, 5)
    torch.testing.assert_close(schedule.temperatures()[1:-1], before[1:-1] ** 0.75 * target[1:-1] ** 0.25)
    assert schedule.temperatures()[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_changes_nothing(value):
    schedule, untouched = (Adaptive(4, 2.0, rate=0.5) for _ in range(2))
    schedule.update(torch.tensor([0.0, 1.0, value, 3.0, 4.0]))
    schedule.update(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]))  # nor what never rises
    assert torch.equal(schedule.temperatures(), power_law(4, 2.0))
    for each in (schedule, untouched):
        each.update(torch.tensor([0.0, 5.0, 6.0, 7.0, 7.5]))
    assert torch.equal(schedule.temperatures(), untouched.temperatures())
    with pytest.raises(ValueError, match=r"\(4,\) expected log-likelihoods are given for 5 temperatures"):
        schedule.update(torch.zeros(4))


def test_no_device_is_waited_for():
    """On the device without values, whatever asked for one would fail."""
    schedule = Adaptive(4, 2.0).to("meta")
    schedule.update(torch.empty(5, device="meta"))
    assert schedule.temperatures().shape == (5,)


def test_processes_share_one_mean(monkeypatch, oracle):
    """Each of two has its own batch; both get the temperatures of the batches' mean."""
    t = power_law(5, 2.0)
    mean = oracle.over(t, "expected_log_likelihood")
    alone, found = Adaptive(5, 2.0, rate=1.0), []
    alone.update(mean)
    for own, other in ((mean + t, mean - t), (mean - t, mean + t)):
        with monkeypatch.context() as patch:
            patch.setattr(dist, "is_initialized", lambda: True)
            patch.setattr(dist, "get_world_size", lambda: 2)
            patch.setattr(dist, "all_reduce", lambda tensor, other=other: tensor.add_(other))
            (schedule := Adaptive(5, 2.0, rate=1.0)).update(given := own.clone())
        assert torch.equal(given, own)
        found.append(schedule.temperatures())
    torch.testing.assert_close(found[0], alone.temperatures(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found[1], alone.temperatures(), rtol=1e-12, atol=0)


def test_only_training_steps_that_sample_the_whole_ladder_change_them(small_model):
    """And of these each: not losses, gradients or validation."""
    objective = ThermodynamicIntegration(schedule=Adaptive(4, 2.0, rate=0.5), evidence_every=2)
    model, data = small_model(objective=objective, posterior_sampler=ULA(0.01, 20)), Digits(num_val=75)
    schedule, start = objective.schedule, power_law(4, 2.0)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = pl.Trainer(**quiet, inference_mode=False, max_steps=3, limit_val_batches=1, enable_model_summary=False)
    trainer.validate(model, datamodule=data, verbose=False)
    images = torch.zeros(5, 1, 8, 8)
    model.loss(images, model.stream("test"), step=0)
    draw_gradient(lambda x, rng: model.loss(x, rng, 0), model, images, model.stream("test"))
    assert torch.equal(schedule.temperatures(), start)
    seen = []
    update = schedule.update
    schedule.update = lambda expected: (seen.append((trainer.global_step, expected.shape)), update(expected))
    trainer.fit(model, datamodule=data)
    assert seen == [(1, (5,)), (3, (5,))]  # after steps 0 and 2
    assert not torch.equal(schedule.temperatures(), start)


def test_a_model_keeps_them_and_one_without_has_the_tensors_it_always_had(small_model):
    def model(schedule):
        return small_model(objective=ThermodynamicIntegration(schedule=schedule))

    first, second = (model(Adaptive(4, 2.0, rate=0.5)) for _ in range(2))
    first.objective.schedule.update(torch.tensor([-9.0, -4.0, -3.0, 2.0, 2.5]))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.objective.schedule.temperatures(), first.objective.schedule.temperatures())
    assert not torch.equal(second.objective.schedule.temperatures(), power_law(4, 2.0))
    assert first.state_dict().keys() - model(PowerLaw(4, 2.0)).state_dict().keys() == KEPT
    assert not any(parameter is first.objective.schedule.points for parameter in first.parameters())


def test_held_out_evidence_is_measured_at_fixed_temperatures(small_model):
    with pytest.raises(ValueError, match=r"evidence_schedule is Adaptive\(.*\), which training changes; give a fixed"):
        small_model(evidence_schedule=Adaptive())
