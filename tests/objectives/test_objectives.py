"""Gradients of the objectives against the exact ones, with exact samples of the linear-Gaussian model."""

import math

import pytest
import torch

from tests.oracle import LinearGaussian, flat
from thermoebm import evidence
from thermoebm.objectives import GaussianKL, MaximumLikelihood, ThermodynamicIntegration
from thermoebm.objectives.maximum_likelihood import contrast
from thermoebm.schedules import PowerLaw

ESTIMATORS = ["endpoints", "contrastive", "detached"]
REPEATS, CHAINS = 40, 5_000


def estimate(objective, oracle, seed=0):
    """Mean ascent direction over repeats, its standard error, and the mean nll; 200,000 exact draws at every t."""
    rng = torch.Generator().manual_seed(seed)
    gradients, nlls = [], []
    for _ in range(REPEATS):
        output = objective(oracle, oracle.images(CHAINS), rng)
        gradients.append(-flat(torch.autograd.grad(output.loss, oracle.parameters, allow_unused=True)))
        nlls.append(output.ladder.get("nll", torch.tensor(math.nan)).item())
    gradient = torch.stack(gradients)
    return gradient.mean(0), gradient.std(0) / REPEATS**0.5, torch.tensor(nlls)


def exact_gradient(oracle):
    """Autograd through the closed-form log p(x): the α and the β column."""
    return flat(torch.autograd.grad(oracle.log_evidence(), oracle.parameters))


def trapezium_gradient(oracle, power):
    """Σ of the trapezium over E_t[∇_β ℓ], and E_1[∇_α f] - E_0[∇_α f], by the closed form."""
    t = PowerLaw(10, power).temperatures()
    rows = [oracle.expected_gradients(*oracle.moments(v)) for v in t.tolist()]
    weights = evidence.trapezium_weights(t)
    alpha = [rows[-1][i] - rows[0][i] for i in (0, 1)]
    beta = [sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in (2, 3)]
    return flat(alpha + beta)


def assert_agrees(mean, standard_error, exact):
    """Every component within 4.5 standard errors: 40 repeats, 39 components, false alarm 1 in 400 for a new seed."""
    assert ((mean - exact).abs() <= 4.5 * standard_error + 1e-12).all()
    assert standard_error.max() < 0.1  # sharp enough for a wrong term to show


ALPHA = slice(0, 12)  # A (3, 3) and c (3); the rest is W (6, 3) and b (6)


@pytest.mark.parametrize("tilted", [False, True], ids=["gaussian prior", "tilted prior"])
@pytest.mark.parametrize("power", [0.1, 1, 6])
class TestEstimators:
    def test_endpoints_is_exact(self, tilted, power):
        oracle = LinearGaussian(tilted)
        mean, error, _ = estimate(ThermodynamicIntegration("endpoints", PowerLaw(10, power)), oracle)
        assert_agrees(mean, error, exact_gradient(oracle))

    def test_contrastive_has_the_exact_alpha_and_the_biased_beta_column(self, tilted, power):
        oracle = LinearGaussian(tilted)
        mean, error, _ = estimate(ThermodynamicIntegration("contrastive", PowerLaw(10, power)), oracle)
        predicted, exact = trapezium_gradient(oracle, power), exact_gradient(oracle)
        assert_agrees(mean, error, predicted)
        torch.testing.assert_close(predicted[ALPHA], exact[ALPHA])
        assert ((mean - exact)[12:].abs() / error[12:]).max() > 20

    def test_detached_shows_its_bias_and_never_moves_alpha(self, tilted, power):
        oracle = LinearGaussian(tilted)
        mean, error, _ = estimate(ThermodynamicIntegration("detached", PowerLaw(10, power)), oracle)
        assert_agrees(mean[12:], error[12:], trapezium_gradient(oracle, power)[12:])
        assert (mean[ALPHA] == 0).all()

    def test_nll_is_the_trapezium_in_nats(self, tilted, power):
        oracle = LinearGaussian(tilted)
        schedule = PowerLaw(10, power)
        t = schedule.temperatures()
        exact = evidence.trapezium(t, oracle.over(t, "expected_log_likelihood")).item()
        for estimator in ESTIMATORS:
            _, _, nll = estimate(ThermodynamicIntegration(estimator, schedule), oracle)
            assert abs(-nll.mean() - exact) < 4 * nll.std() / REPEATS**0.5


def test_detached_cosine_and_norm_improve_with_power():
    """The pattern of the report's bias: the more weight the schedule puts near t = 0, the worse the β gradient."""
    oracle = LinearGaussian(tilted=False)
    exact = exact_gradient(oracle)[12:]
    beta = [trapezium_gradient(oracle, power)[12:] for power in (0.1, 1, 6)]
    ratio = [float(row.norm() / exact.norm()) for row in beta]
    cosine = [float(row @ exact / (row.norm() * exact.norm())) for row in beta]
    assert cosine[0] < cosine[1] < 1
    assert cosine[0] < cosine[2] < 1
    assert max(abs(1 - r) for r in ratio) > 0.02


@pytest.mark.parametrize("tilted", [False, True])
def test_maximum_likelihood_is_exact_and_has_no_nll(tilted):
    oracle = LinearGaussian(tilted)
    mean, error, nll = estimate(MaximumLikelihood(), oracle)
    assert_agrees(mean, error, exact_gradient(oracle))
    assert nll.isnan().all()


def test_energies_in_a_loss_stay_in_float32_under_autocast(small_model):
    """Value and gradient of the contrast are float32's, bit by bit; those in bfloat16 are others."""
    model = small_model()
    z_posterior, z_prior = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value, energies = contrast(model, z_posterior, z_prior)
            rounded = model.energy(z_posterior).mean()
        gradient = torch.autograd.grad(value, list(model.energy.parameters()))
        found.append(torch.cat([value.view(1), *(e.view(1) for e in energies.values()), flat(gradient)]))
    assert torch.equal(*found)
    assert rounded != energies["energy_posterior"]


def test_endpoints_samples_the_inner_rungs_at_every_nth_step_only():
    oracle, asked = LinearGaussian(), []
    sample = oracle.sample_posterior
    oracle.sample_posterior = lambda x, t, rng, **kw: (asked.append(len(t)), sample(x, t, rng, **kw))[1]
    objective = ThermodynamicIntegration("endpoints", PowerLaw(5, 2.0), evidence_every=3)
    rng = torch.Generator().manual_seed(0)
    ladders = [objective(oracle, oracle.images(4), rng, step=step).ladder for step in (0, 1, 2, 3, None)]
    assert asked == [5, 1, 1, 5, 1]
    assert ["nll" in ladder for ladder in ladders] == [True, False, False, True, False]


def test_eta_weighs_the_kl_terms_in_the_logged_nll():
    """Same samples: nll and loss fall by η times the terms, and the gradient stays, as the objective notes."""
    oracle, kl = LinearGaussian(), GaussianKL(combination="sum")
    rng = torch.Generator()
    plain = ThermodynamicIntegration("detached", PowerLaw(5, 2.0))(oracle, oracle.images(500), rng.manual_seed(0))
    rng.manual_seed(0)
    z = torch.stack([oracle.sample(t, 500, rng) for t in PowerLaw(5, 2.0).temperatures().tolist()])
    weighted = ThermodynamicIntegration("detached", PowerLaw(5, 2.0), eta=2.0, kl=kl)
    assert weighted.notes() == ["the energy never learns", "eta = 2 changes the logged nll and no gradient"]
    output = weighted(oracle, oracle.images(500), rng.manual_seed(0))
    assert output.ladder["nll"].item() == pytest.approx(plain.ladder["nll"].item() - 2 * kl(z).item(), rel=1e-9)
    assert output.loss.item() == pytest.approx(plain.loss.item() - 2 * kl(z).item(), rel=1e-9)
    gradients = [torch.autograd.grad(o.loss, oracle.parameters[2:]) for o in (plain, output)]
    torch.testing.assert_close(flat(gradients[0]), flat(gradients[1]))


@pytest.mark.parametrize("name", [*ESTIMATORS, "pathwise", "maximum likelihood"])
def test_the_codes_constant_changes_the_value_of_the_loss_and_nothing_else(small_model, name):
    """Gradients of all parameters and everything logged are the same bits, along real chains in float32.

    The loss grows by the trapezium of what the constants differ by, recomputed here from the very samples.
    """
    schedule, x = PowerLaw(3, 2.0), torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    objective = MaximumLikelihood() if name == "maximum likelihood" else ThermodynamicIntegration(name, schedule)
    models = [small_model(likelihood_constant=constant) for constant in ("gaussian", "logsumexp")]
    outputs = [objective(model, x, model.stream("test")) for model in models]
    gradients = [
        torch.autograd.grad(o.loss, list(m.parameters()), allow_unused=True, materialize_grads=True)
        for o, m in zip(outputs, models, strict=True)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in gradients[0])
    assert outputs[0].diagnostics == outputs[1].diagnostics
    assert outputs[0].ladder == outputs[1].ladder

    model, rng = models[0], models[0].stream("test")
    t = schedule.temperatures().float()
    ends_only = name in ("endpoints", "maximum likelihood")
    z_prior = model.sample_prior(5, rng)
    sampled = t[-1:] if name == "maximum likelihood" else t[1:]
    z = torch.cat([z_prior.unsqueeze(0), model.sample_posterior(x, sampled, rng, z_prior=z_prior)])
    with torch.no_grad():
        a = torch.stack([-(x - model.generator(row)).square().flatten(1) / (2 * 0.3**2) for row in z]).double()
    shift = (64 * a.exp().sum(-1).log() - 32 * math.log(2 * math.pi * 0.3**2)).mean(-1)
    expected = shift[-1] if ends_only else evidence.trapezium(t, shift)
    assert outputs[1].loss.item() - outputs[0].loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected > 100


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"estimator": "exact"}, "estimator is 'exact'"),
        *[({"eta": eta}, f"eta is {eta} .*finite and not negative") for eta in (-1.0, math.inf, math.nan)],
        ({"evidence_every": math.nan}, "evidence_every nan"),
        ({"evidence_every": 0}, "at least 1"),
    ],
)
def test_impossible_objectives(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        ThermodynamicIntegration(**fields)
