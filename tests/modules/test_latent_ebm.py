"""The LightningModule: sampling through it, its gradients along real chains, and its training step."""

import lightning.pytorch as pl
import pytest
import torch

from tests.oracle import DTYPE, LinearGaussian, flat
from thermoebm import evidence
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import GaussianKL, MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import ULA
from thermoebm.schedules import PowerLaw


def small(objective=None, **fields):
    """A small model of 8x8 images in float64."""
    torch.manual_seed(0)
    energy, generator = EnergyMLP(4, 16), ConvGenerator(4, (1, 8, 8), 2)
    fields = {"prior_sampler": ULA(0.16, 10), "posterior_sampler": ULA(0.01, 5), "compile": "off", **fields}
    return LatentEBM(energy, generator, objective, **fields).double()


def of(oracle, objective, steps, step_size):
    """The oracle's networks in a LatentEBM."""
    return LatentEBM(
        oracle.energy,
        oracle.generator,
        objective,
        prior_sampler=ULA(step_size, steps),
        posterior_sampler=ULA(step_size, steps),
        prior_sigma=oracle.prior_sigma,
        likelihood_sigma=oracle.likelihood_sigma,
        compile="off",
    )


def langevin_law(oracle, t, s, steps):
    """Mean and covariance after K steps of s from N(0, σ0² I): the stationary law and what is left of the start."""
    precision, mean = oracle.precision(t).detach(), oracle.moments(t)[0].detach()
    identity = torch.eye(3, dtype=DTYPE)
    decay = torch.linalg.matrix_power(identity - s * precision, steps)
    stationary = torch.linalg.inv(precision - s * precision @ precision / 2)
    return mean - decay @ mean, stationary + decay @ (oracle.prior_sigma**2 * identity - stationary) @ decay


@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "detached"])
def test_gradients_along_real_chains_are_expectations_under_their_law(estimator):
    """End to end: networks, chains, ladder and loss against the closed form at the law of 60 Langevin steps.

    20 repeats of 2,000 chains, 39 components within 5 standard errors.
    """
    oracle, s, steps = LinearGaussian(), 0.02, 60
    schedule = PowerLaw(4, 2.0)
    objective = ThermodynamicIntegration(estimator, schedule)
    model = of(oracle, objective, steps, s)
    gradients = []
    for repeat in range(20):
        output = objective(model, oracle.images(2_000), model.stream("test", repeat))
        gradients.append(-flat(torch.autograd.grad(output.loss, oracle.parameters)))
    gradient = torch.stack(gradients)

    t = schedule.temperatures()
    rows = [oracle.expected_gradients(*langevin_law(oracle, v, s, steps)) for v in t.tolist()]
    weights = [0, 0, 0, 0, 1] if estimator == "endpoints" else evidence.trapezium_weights(t)
    alpha = [(rows[-1][i] - rows[0][i]) * (estimator != "detached") for i in (0, 1)]
    beta = [sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in (2, 3)]
    error = gradient.std(0) / 20**0.5
    assert ((gradient.mean(0) - flat(alpha + beta)).abs() <= 5 * error + 1e-12).all()
    assert error.max() < 0.15


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("chain_start", ["reference", "prior_chain"])
def test_pathwise_gradient_is_that_of_the_sampler_under_common_noise(eta, chain_start):
    """Backward through all chains against central differences of the whole K-step loss, for both networks.

    The step is tiny because a rectifier that switches within it would make the chain jump.
    """
    objective = ThermodynamicIntegration("pathwise", PowerLaw(3, 2.0), eta=eta, kl=GaussianKL())
    model = small(objective, chain_start=chain_start, likelihood_sigma=1.0)
    for parameter in model.energy.parameters():  # an energy that matters to the chains
        parameter.data.mul_(2)
    x = torch.rand(6, 1, 8, 8, dtype=DTYPE) * 2 - 1

    def loss():
        return objective(model, x, model.stream("test")).loss

    parameters = [*model.energy.parameters(), *model.generator.parameters()]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    rng = torch.Generator().manual_seed(0)
    for network in (model.energy, model.generator):
        inside = {id(p) for p in network.parameters()}
        direction = [torch.randn(p.shape, generator=rng, dtype=DTYPE) * (id(p) in inside) for p in parameters]
        predicted = sum((g * v).sum() for g, v in zip(gradients, direction, strict=True)).item()
        values = []
        for h in (1e-8, -1e-8):
            with torch.no_grad():
                for p, v in zip(parameters, direction, strict=True):
                    p += h * v
            values.append(loss().item())
            with torch.no_grad():
                for p, v in zip(parameters, direction, strict=True):
                    p -= h * v
        # Round-off of a loss of 70 nats in the difference: 70 * 1e-15 / 2e-8.
        assert predicted == pytest.approx((values[0] - values[1]) / 2e-8, rel=1e-4, abs=4e-6)
        assert abs(predicted) > 1e-3


def test_folded_temperatures_are_one_at_a_time():
    x, t = torch.rand(3, 1, 8, 8, dtype=DTYPE), torch.linspace(0.2, 1, 5, dtype=DTYPE)
    ends = [
        model.sample_posterior(x, t, model.stream("test")) for model in (small(temperature_chunk=c) for c in (1, 2, 5))
    ]
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(ends[2], ends[0], rtol=0, atol=1e-10)
    assert ends[0].std(0).min() > 0  # the temperatures do differ


def test_compiled_training_equals_eager_and_compiles_each_shape_once():
    """Same noise, ten steps in float32: losses agree to 1e-4 and no graph is added after the first epoch."""
    losses, graphs = [], []
    for compile in ("off", "on"):
        model = small(ThermodynamicIntegration("contrastive", PowerLaw(3, 2.0)), compile=compile).float()
        model.chains.training_batch = 6
        torch._dynamo.utils.counters.clear()
        for step in range(4):
            x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(step)) * 2 - 1
            losses.append(model.objective(model, x, model.stream("test", step)).loss.item())
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert losses[4:] == pytest.approx(losses[:4], rel=1e-4)
    assert graphs[:4] == [0, 0, 0, 0]
    assert graphs[4:] == [2, 2, 2, 2]


def test_the_prior_chain_needs_no_generator():
    model, calls = small(), []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    model.sample_prior(7, model.stream("test"))
    assert not calls
    model.sample_posterior(torch.zeros(2, 1, 8, 8, dtype=DTYPE), torch.ones(1, dtype=DTYPE), model.stream("test"))
    assert calls


def test_posterior_chains_start_where_the_config_says():
    """With a vanishing step the end of a chain is its start."""
    x, t = torch.rand(4, 1, 8, 8, dtype=DTYPE), torch.tensor([0.5, 1.0], dtype=DTYPE)
    z_prior = torch.randn(4, 4, dtype=DTYPE)
    still = {"posterior_sampler": ULA(1e-16, 1)}
    ends = small(chain_start="prior_chain", **still).sample_posterior(x, t, torch.Generator(), z_prior=z_prior)
    torch.testing.assert_close(ends, z_prior.expand(2, 4, 4), rtol=0, atol=1e-6)
    ends = small(prior_sigma=2.0, **still).sample_posterior(
        x.repeat(1000, 1, 1, 1), t, torch.Generator().manual_seed(0)
    )
    # 32,000 draws of N(0, 4): the standard error of their standard deviation is 2 / sqrt(64,000).
    assert abs(ends.std() - 2) < 4 * 2 / 64_000**0.5


def test_pixel_noise_is_that_of_equation_2():
    """Generated images differ from noise-free ones by N(0, σl²): variance within 4 standard errors."""
    clean = small().generate(200, torch.Generator().manual_seed(0))
    noisy = small(pixel_noise=True, likelihood_sigma=0.4).generate(200, torch.Generator().manual_seed(0))
    variance = (noisy - clean).var().item()
    assert abs(variance - 0.16) < 4 * 0.16 * (2 / clean.numel()) ** 0.5


class Batches(torch.utils.data.Dataset):
    """Twelve fixed images."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index)) * 2 - 1


def fit(model, epochs=2, **fields):
    loader = torch.utils.data.DataLoader(Batches(), batch_size=4)
    trainer = pl.Trainer(
        max_epochs=epochs,
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **fields,
    )
    trainer.fit(model.float(), loader, loader)
    return trainer


def test_a_batch_is_one_global_step():
    trainer = fit(small())
    assert trainer.global_step == 2 * 3


def test_validation_and_callbacks_leave_training_alone():
    """Noise is a function of the step: validating between steps, or drawing samples, changes no weight."""

    class Draw(pl.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            module.generate(3, module.stream("draw"))
            torch.rand(5)

    quiet, watched, other = small(), small(), small(seed=1)
    fit(quiet, limit_val_batches=0)
    fit(watched, callbacks=[Draw()])
    fit(other, limit_val_batches=0)
    weights = [flat(list(model.parameters())) for model in (quiet, watched, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_validation_compares_objectives_by_the_same_measure():
    """At equal parameters every objective reports the same held-out evidence, bit by bit, in nats."""
    reports, detached = [], ThermodynamicIntegration("detached", PowerLaw(3, 1.0))
    for objective, constant in ((MaximumLikelihood(), "gaussian"), (detached, "gaussian"), (detached, "logsumexp")):
        model = small(objective, evidence_schedule=PowerLaw(4, 3.0), likelihood_constant=constant).float()
        trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
        (report,) = trainer.validate(model, torch.utils.data.DataLoader(Batches(), batch_size=4), verbose=False)
        reports.append(report)
    shared = ("short_run_evidence", "short_run_nll", "left_sum", "right_sum", "reconstruction_error")
    for name in shared:
        assert len({report[f"val/{name}"] for report in reports}) == 1
    assert reports[0]["val/short_run_nll"] == -reports[0]["val/short_run_evidence"]
    assert len({report["val/loss"] for report in reports}) == 3


@pytest.mark.parametrize(("interval", "epochs"), [("epoch", 3), ("step", 8 / 3)])
def test_learning_rates_decay_per_epoch_or_per_step(interval, epochs):
    """Stopped after two of the three steps of the third epoch, which then ends; the decay begins after the first."""
    trainer = fit(small(decay_interval=interval), epochs=3, max_steps=8)
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([2e-5 * 0.975 ** (epochs - 1), 1e-4 * 0.975 ** (epochs - 1)], rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        *[({"prior_sigma": s}, f"prior_sigma is {s}") for s in (0.0, float("inf"), float("nan"))],
        *[({"likelihood_sigma": s}, f"likelihood_sigma {s}") for s in (-1.0, float("inf"), float("nan"))],
        ({"temperature_chunk": 0}, "temperature_chunk is 0"),
    ],
)
def test_impossible_models(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**fields)


def test_networks_must_agree_about_the_latent_size():
    with pytest.raises(ValueError, match="latents of size 4, the generator of size 5"):
        LatentEBM(EnergyMLP(4), ConvGenerator(5, (1, 8, 8), 2))
