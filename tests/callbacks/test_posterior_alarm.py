"""The alarm for posterior chains, against closed forms, healthy models, and samplers made wrong on purpose."""

import math
import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from tests.oracle import DTYPE, LinearGaussian
from thermoebm.callbacks import PosteriorAlarm
from thermoebm.callbacks.posterior_alarm import _HeldOut
from thermoebm.densities import PowerPosterior
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import MaximumLikelihood
from thermoebm.samplers import ULA, largest_curvature, run

CURVATURE, MOVEMENT = "posterior/step_times_curvature", "posterior/movement"
TRY = r"; try --model\.posterior_sampler\."


def epoch(alarm, model, x, step=200, **metrics):
    """One epoch's end as the alarm sees it, with these images and these metrics of a validation; what it logs."""
    logged = {}
    model.log_dict = lambda scalars, sync_dist: logged.update(scalars)
    metrics = {f"val/{name}": torch.tensor(value) for name, value in metrics.items()}
    plugin = SimpleNamespace(forward_context=torch.no_grad)
    known = {"current_epoch": 3, "global_step": step, "callback_metrics": metrics, "callbacks": []}
    trainer = SimpleNamespace(precision_plugin=plugin, **known)
    alarm.on_train_batch_start(trainer, model, x, 0)
    if metrics:
        alarm.on_validation_epoch_start(trainer, model)
        alarm.on_validation_batch_start(trainer, model, x, 0)
    alarm.on_train_epoch_end(trainer, model)
    return logged


def of(oracle, product, steps):
    """The oracle's networks in a LatentEBM, and the images; its chains have a step size of ``product`` / λ."""
    largest = torch.linalg.eigvalsh(oracle.precision(1.0))[-1].item()
    sampler = ULA(product / largest, steps)
    sigmas = {"prior_sigma": oracle.prior_sigma, "likelihood_sigma": oracle.likelihood_sigma}
    kernels = {"prior_sampler": ULA(0.02, 60), "posterior_sampler": sampler, "compile": "off"}
    model = LatentEBM(oracle.energy, oracle.generator, MaximumLikelihood(), **sigmas, **kernels)
    return model, oracle.images(200)


@pytest.mark.parametrize("tilted", [False, True])
def test_curvature_is_the_largest_eigenvalue_of_the_precision(tilted):
    """At any z, here within 1 %; without an energy it is 1/σ0² + |W|²/σl², with the spectral norm of W."""
    oracle = LinearGaussian(tilted)
    exact = torch.linalg.eigvalsh(oracle.precision(1.0))[-1].item()
    if not tilted:
        norm = torch.linalg.matrix_norm(oracle.generator.weight, 2).item()
        assert exact == pytest.approx(1 / oracle.prior_sigma**2 + norm**2 / oracle.likelihood_sigma**2)
    z, rng = 3 * torch.randn(5, 3, dtype=DTYPE), torch.Generator().manual_seed(0)
    found = largest_curvature(oracle.power_posterior(1.0, 5), z, rng, 30)
    assert found.tolist() == pytest.approx([exact] * 5, rel=0.01)
    assert all(parameter.grad is None for parameter in oracle.parameters)


@pytest.mark.parametrize(("product", "diverges"), [(1.9, False), (2.1, True)])
def test_two_is_where_chains_begin_to_diverge(product, diverges):
    """The deviation along the first eigenvector grows as |1 - s λ|^K: 0.9^200 and 1.1^200 = 1.9e8."""
    oracle = LinearGaussian()
    largest = torch.linalg.eigvalsh(oracle.precision(1.0))[-1].item()
    noise = torch.randn(200, 50, 3, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    state, _ = run(ULA(product / largest, 200), oracle.power_posterior(1.0, 50), torch.zeros(50, 3, dtype=DTYPE), noise)
    assert (state.z.abs().max() > 1e6) == diverges


def test_curvature_is_in_the_precision_of_the_latents_under_autocast(small_model):
    model, x = small_model(), torch.rand(4, 1, 8, 8)
    posterior = PowerPosterior(model.prior, model.likelihood, x, torch.ones(()))
    z, found = torch.randn(4, 8), []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(largest_curvature(posterior, z, torch.Generator().manual_seed(0), 8))
    assert torch.equal(*found)


def test_what_is_logged_is_the_movement_and_the_curvature(small_model):
    """A generator of constant images leaves N(0, σ0² I): λ = 1/σ0², and |z_K - z_0|²/(d σ0²) = (1 - a)² + v (1 - a²).

    a = (1 - s/σ0²)^K and v = 1/(1 - s/(2σ0²)). Relative standard error over 2,000 images of 8 dimensions: 0.011.
    """
    model = small_model(prior_sigma=2.0, posterior_sampler=ULA(0.4, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    logged, a = epoch(PosteriorAlarm(), model, torch.zeros(2000, 1, 8, 8)), 0.9**10
    assert logged[CURVATURE] == pytest.approx(0.4 / 4, rel=1e-5)
    assert logged[MOVEMENT] == pytest.approx((1 - a) ** 2 + (1 - a**2) / (1 - 0.05), rel=0.044)


@pytest.mark.parametrize("chain_start", ["reference", "prior_chain", "persistent"])
def test_movement_is_measured_from_where_the_chains_start(small_model, chain_start):
    """With a vanishing step it is zero, wherever that is. The step to try is σ0²/(2K)."""
    model = small_model(chain_start=chain_start, posterior_sampler=ULA(1e-12, 4))
    with pytest.warns(UserWarning, match=rf"chains hardly move at epoch 3: .*{TRY}step_size 0\.12\."):
        assert epoch(PosteriorAlarm(), model, torch.zeros(5, 1, 8, 8))[MOVEMENT] < 1e-6


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_untrained_models_are_healthy(shape):
    """Also of the report's full width. A warning would be an error."""
    kernels = {"posterior_sampler": ULA(0.05, 1), "compile": "off"}
    model = LatentEBM(EnergyMLP(100), ConvGenerator(100, shape, 64), **kernels)
    logged = epoch(PosteriorAlarm(products=3), model, torch.rand(1, *shape) * 2 - 1, **BAD)
    assert logged[CURVATURE] < 1
    assert 0.05 < logged[MOVEMENT] < 1


#: The first validation after an epoch in which nothing has been learned yet.
BAD = {"reconstruction_error": 1.0, "left_sum": -2.0, "right_sum": 1.0}


def test_a_healthy_training_raises_no_alarm_and_is_not_changed(small_model, fit):
    """Chains of two steps, validated from the first epoch on, when images are still worse than their mean."""
    weights = []
    for callback in (pl.Callback(), PosteriorAlarm()):
        trainer = fit(model := small_model(objective=MaximumLikelihood()), callback, max_epochs=2)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
    assert trainer.callback_metrics["val/reconstruction_error"] > 0.4


def test_a_step_that_is_too_large_is_reported_for_chains_and_ladder(small_model, fit, recwarn):
    """Each once in three epochs, with σ0²/(2K) to try."""
    fit(small_model(posterior_sampler=ULA(2.0, 20), objective=MaximumLikelihood()), PosteriorAlarm(), max_epochs=3)
    said = sorted(str(warning.message) for warning in recwarn if "epoch" in str(warning.message))
    assert len(said) == 2
    for found, fault in zip(said, ("diverge", "miss the power posteriors"), strict=True):
        assert re.fullmatch(rf"Posterior chains {fault} at epoch 0: .*{TRY}step_size 0\.025\.", found)


@pytest.mark.parametrize(("product", "advised"), [(0.5, None), (1.9, None), (2.1, 1.0)])
def test_chains_are_reported_from_two_on_with_the_step_of_curvature_one(product, advised):
    """The power method approaches λ from below, by less than a hundredth here."""
    model, x = of(LinearGaussian(), product, 2)
    alarm, sampler = PosteriorAlarm(products=30), model.posterior_sampler
    if advised is None:
        epoch(alarm, model, x)
        return
    with pytest.warns(UserWarning, match="largest curvature of log p") as seen:
        epoch(alarm, model, x)
    step_size = float(str(seen[0].message).rpartition(" ")[2].removesuffix("."))
    assert step_size == pytest.approx(sampler.step_size / product, rel=0.05)  # two digits


def test_chains_that_are_not_finite_are_reported(small_model):
    model = small_model(posterior_sampler=ULA(1e17, 20))
    with pytest.warns(UserWarning, match=rf"diverge at epoch 3: .* is nan .*{TRY}step_size 0\.025\."):
        epoch(PosteriorAlarm(), model, torch.zeros(5, 1, 8, 8))


@pytest.mark.parametrize("product", [0.5, 1.98])
def test_sums_in_the_wrong_order_are_noise_if_a_ladder_says_so(product):
    """The logged sums are made to be in the wrong order; those of this model's chains are not, or are."""
    model, x = of(LinearGaussian(), product, 100)
    sums = {"reconstruction_error": 0.0, "left_sum": -1.0, "right_sum": -2.0}
    if product == 0.5:
        epoch(PosteriorAlarm(), model, x, **sums)
        return
    with pytest.warns(UserWarning, match=rf"val/left_sum -1 is above val/right_sum -2, .*{TRY}"):
        epoch(PosteriorAlarm(), model, x, **sums)


@pytest.mark.parametrize(
    ("errors", "warned"),
    [
        ([1.0, 0.8, 0.6, 0.5], []),  # learns
        ([1.0, 0.95, 0.94, 0.1, 0.1, 0.5, 0.5], [1, 5]),  # once until it is healthy again
        ([0.1, 0.2, 0.2], []),  # rises, and is still better than the mean image
        ([float("nan")], [0]),
    ],  # at steps 0, 200, 400, ...
)
def test_reconstructions_worse_than_the_mean_image_are_reported_unless_they_improve(
    small_model, recwarn, errors, warned
):
    """The images' variance is 0.25."""
    model, x = small_model(), torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    alarm, seen = PosteriorAlarm(), []
    for i, error in enumerate(errors):
        epoch(alarm, model, x, 200 * i, **BAD | {"reconstruction_error": error})
        seen += [i] * len(recwarn)
        assert all("that of the mean image 0.25; try --model.posterior_sampler." in str(w.message) for w in recwarn)
        recwarn.clear()
    assert seen == warned


def test_good_step_sizes_are_answered_with_more_steps(small_model):
    """0.02 is within a factor of two of σ0²/(2K) = 1/40."""
    model = small_model(posterior_sampler=ULA(0.02, 20))
    with pytest.warns(UserWarning, match=rf"that of the mean image 0{TRY}num_steps 40\."):
        epoch(PosteriorAlarm(), model, torch.zeros(2, 1, 8, 8), **BAD | {"reconstruction_error": float("nan")})


def test_the_mean_images_error_is_over_all_held_out_images():
    batches = torch.rand(30, 3, 8, 8).split(20)
    held_out = _HeldOut(batches[0])
    for batch in batches:
        held_out.add(batch)
    x = torch.cat(batches)
    assert held_out.variance() == pytest.approx((x - x.mean(0)).square().mean().item(), rel=1e-5)
    assert held_out.first is batches[0]


class Times(torch.autograd.Function):
    """The identity, which can be differentiated so many times."""

    @staticmethod
    def forward(ctx, x, times):
        ctx.times = times
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.times == 0:
            raise NotImplementedError
        return Times.apply(gradient, ctx.times - 1), None


def test_a_network_without_second_derivatives_trains_on_unmeasured(small_model):
    model, generator = small_model(), ConvGenerator(8, (1, 8, 8), 2)
    model.generator.forward = lambda z: generator(Times.apply(z, 1))
    logged = epoch(PosteriorAlarm(), model, torch.zeros(2, 1, 8, 8))
    assert math.isnan(logged[CURVATURE])
    assert logged[MOVEMENT] > 0.02


@pytest.mark.parametrize(
    "fields", [{"count": 0}, {"products": 0}, {"least_movement": 0.0}, {"largest_movement": float("nan")}]
)
def test_impossible_alarms(fields):
    with pytest.raises(ValueError, match="must be"):
        PosteriorAlarm(**fields)
