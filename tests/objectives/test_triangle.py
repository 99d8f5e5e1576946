"""The divergence triangle on a Gaussian case, in which all three divergences have closed forms."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from thermoebm.densities import DiagonalGaussian, GaussianLikelihood, GaussianPrior
from thermoebm.objectives import Noise, Triangle

SIGMA = 0.5  # of pixels; the prior's is 1
MEAN, VARIANCE = 0.4, 1.7  # of the data
BATCHES, SIZE = 200, 2_000


class Line(nn.Module):
    """g_θ(z) = w z + b, images of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(0.8)), nn.Parameter(torch.tensor(-0.3))

    def forward(self, z):
        return (self.w * z + self.b).view(-1, 1, 1, 1)


class Inference(nn.Module):
    """q_φ(z|x) = N(a x + c, exp s)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.2))
        self.s = nn.Parameter(torch.tensor(-0.4))

    def forward(self, x):
        mean = self.a * x.flatten(1) + self.c
        return mean, self.s.expand_as(mean)


class Parabola(nn.Module):
    """f_α(x) = h x - k x²/2: π_α = N(h/k, 1/k)."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.k = nn.Parameter(torch.tensor(0.6)), nn.Parameter(torch.tensor(0.9))

    def forward(self, x):
        return (self.h * x - self.k * x.square() / 2).flatten(1).sum(-1)


def model_of():
    torch.set_default_dtype(torch.float64)
    try:
        generator, encoder, energy = Line(), Inference(), Parabola()
    finally:
        torch.set_default_dtype(torch.float32)
    likelihood = GaussianLikelihood(generator, SIGMA)
    return SimpleNamespace(
        generator=generator, encoder=encoder, energy=energy, reference=GaussianPrior(1.0), likelihood=likelihood
    )


def joint_of_inference(mean, variance, encoder):
    """(x, z) with x ~ N(mean, variance) and z ~ q_φ(z|x)."""
    a, c, s = encoder.a, encoder.c, encoder.s
    mean, variance = torch.as_tensor(mean).double(), torch.as_tensor(variance).double()
    covariance = torch.stack(
        [torch.stack([variance, a * variance]), torch.stack([a * variance, a**2 * variance + s.exp()])]
    )
    return MultivariateNormal(torch.stack([mean, a * mean + c]), covariance)


def divergences(model):
    """KL(Q‖P), KL(P‖Π) and KL(Q‖Π)."""
    w, b, h, k = model.generator.w, model.generator.b, model.energy.h, model.energy.k
    one = torch.ones_like(w)
    p = MultivariateNormal(
        torch.stack([b, 0 * b]), torch.stack([torch.stack([w**2 + SIGMA**2, w]), torch.stack([w, one])])
    )
    q = joint_of_inference(MEAN, VARIANCE, model.encoder)
    pi = joint_of_inference(h / k, 1 / k, model.encoder)
    return kl_divergence(q, p), kl_divergence(p, pi), kl_divergence(q, pi)


def draws(model, objective, batches=BATCHES):
    """For each batch its output and the gradient of its loss by parameter."""
    rng = torch.Generator().manual_seed(0)
    parameters = dict(nn.ModuleDict(networks(model)).named_parameters())
    for _ in range(batches):
        e = [torch.randn(SIZE, 1, generator=rng, dtype=torch.float64) for _ in range(4)]
        x = (MEAN + math.sqrt(VARIANCE) * e[0]).view(-1, 1, 1, 1)
        pixels = e[3].view(-1, 1, 1, 1) if objective.pixel_noise else None
        output = objective(model, x, Noise(e[1], e[2], pixels))
        found = torch.autograd.grad(output.loss, [*parameters.values()], allow_unused=True, materialize_grads=True)
        yield output, dict(zip(parameters, found, strict=True))


def networks(model):
    return {"generator": model.generator, "encoder": model.encoder, "energy": model.energy}


def test_theta_and_phi_lower_the_triangle_and_alpha_raises_it():
    """Each gradient within four standard errors, which are at most .5 % of the largest: 400,000 images."""
    model = model_of()
    first, second, third = divergences(model)
    parameters = dict(nn.ModuleDict(networks(model)).named_parameters())
    exact = torch.autograd.grad(first + second - third, [*parameters.values()])
    exact = {n: -g if n.startswith("energy") else g for n, g in zip(parameters, exact, strict=True)}
    found = [gradient for _, gradient in draws(model, Triangle())]
    largest = max(abs(g.item()) for g in exact.values())
    for name, gradient in exact.items():
        values = torch.stack([g[name] for g in found])
        error = values.std() / math.sqrt(BATCHES)
        assert error < 0.005 * largest
        assert abs(values.mean() - gradient) < 4 * error, name


def test_the_terms_are_the_three_divergences_up_to_constants():
    """The entropies of data, prior and pixels, and log Z_α, which the Gaussian case has in closed form."""
    model = model_of()
    outputs = [output.diagnostics for output, _ in draws(model, Triangle())]
    terms = {name: torch.stack([output[name] for output in outputs]) for name in outputs[0]}
    h, k = model.energy.h.detach(), model.energy.k.detach()
    log_z = h**2 / (2 * k) + 0.5 * torch.log(2 * math.pi / k)
    of_data, of_prior, of_pixels = (0.5 * math.log(2 * math.pi * math.e * v) for v in (VARIANCE, 1.0, SIGMA**2))
    estimates = (
        terms["reconstruction"] + terms["kl_to_prior"] - of_data,
        terms["recovery"] - terms["energy_generated"] + log_z - of_prior - of_pixels,
        log_z - terms["energy_data"] - of_data,
    )
    for estimate, exact in zip(estimates, divergences(model), strict=True):
        error = estimate.std() / math.sqrt(BATCHES)
        assert error < 0.01
        assert abs(estimate.mean() - exact) < 4 * error


@pytest.mark.parametrize(
    ("weights", "taught"),
    [
        ({"inference_weight": 1.0}, {"generator", "encoder"}),
        ({"recovery_weight": 1.0}, {"generator", "encoder"}),
        ({"energy_weight": 1.0}, {"generator", "energy"}),
        ({"energy_penalty": 1.0, "inference_weight": 1e-300}, {"energy"}),
    ],
)
def test_each_term_teaches_its_own_networks_only(weights, taught):
    model, none = model_of(), dict.fromkeys(("inference_weight", "energy_weight", "recovery_weight"), 0.0)
    ((_, gradient),) = draws(model, Triangle(**none | weights), batches=1)
    assert {name.split(".")[0] for name, g in gradient.items() if abs(g) > 1e-100} == taught


def test_energy_and_generator_learn_the_opposite_of_one_difference():
    """α by E f(x̃) - E f(x) at fixed images, θ by -E f(x̃) at fixed α, as written out here; a penalty is α's alone."""
    model, penalty = model_of(), 0.3
    objective = Triangle(inference_weight=0, recovery_weight=0, energy_penalty=penalty)
    ((_, gradient),) = draws(model, objective, batches=1)
    rng = torch.Generator().manual_seed(0)
    e = [torch.randn(SIZE, 1, generator=rng, dtype=torch.float64) for _ in range(4)]
    x, z, noise = MEAN + math.sqrt(VARIANCE) * e[0], e[2], SIGMA * e[3]
    w, b, h, k = (p.detach() for p in (model.generator.w, model.generator.b, model.energy.h, model.energy.k))
    made = w * z + b + noise
    slope = h - k * made
    f, f_made = h * x - k * x**2 / 2, h * made - k * made**2 / 2
    by_hand = {
        "generator.w": -(slope * z).mean(),
        "generator.b": -slope.mean(),
        "energy.h": made.mean() - x.mean() + 2 * penalty * ((f * x).mean() + (f_made * made).mean()),
        "energy.k": (x**2 / 2 - made**2 / 2).mean() - penalty * ((f * x**2).mean() + (f_made * made**2).mean()),
    }
    for name, value in by_hand.items():
        torch.testing.assert_close(gradient[name], value)


def test_without_an_energy_it_is_the_evidence_bound():
    """The loss is KL(Q‖P) but for the data's entropy, and nothing is drawn from the generator."""
    model = model_of()
    exact = divergences(model)[0] + 0.5 * math.log(2 * math.pi * math.e * VARIANCE)
    model.energy = None
    outputs = [
        Triangle()(model, x, Noise(torch.randn(SIZE, 1).double(), None, None))
        for x in (MEAN + math.sqrt(VARIANCE) * torch.randn(50, SIZE, 1, 1, 1, generator=seeded()).double())
    ]
    losses = torch.stack([output.loss for output in outputs])
    assert set(outputs[0].diagnostics) == {"reconstruction", "kl_to_prior", "evidence_bound"}
    assert abs(losses.mean() - exact) < 4 * losses.std() / math.sqrt(50)


def seeded():
    torch.manual_seed(1)
    return torch.Generator().manual_seed(0)


def test_the_gaussian_of_an_encoder_is_torchs():
    mean, log_variance, z = torch.randn(3, 5, 4, generator=seeded(), dtype=torch.float64)
    found = DiagonalGaussian(mean, log_variance)
    reference = torch.distributions.Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(found.log_prob(z), reference.log_prob(z).sum(-1))
    prior = torch.distributions.Normal(torch.zeros_like(mean), 0.7)
    torch.testing.assert_close(found.kl_to(GaussianPrior(0.7)), kl_divergence(reference, prior).sum(-1))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (dict.fromkeys(("inference_weight", "energy_weight", "recovery_weight"), 0.0), "all weights are zero"),
        ({"energy_weight": -1.0}, "energy_weight is -1.0; it must be finite and not negative"),
        ({"energy_penalty": math.inf}, "energy_penalty is inf"),
        ({"recovery_weight": math.nan}, "recovery_weight is nan"),
    ],
)
def test_weights_that_cannot_be_are_told(fields, told):
    with pytest.raises(ValueError, match=told):
        Triangle(**fields)


def test_the_gradient_of_a_batch_is_the_mean_of_its_parts():
    """No term couples images: so several processes, which average their gradients, train as one does."""
    model, rng = model_of(), torch.Generator().manual_seed(0)
    x, *e = (torch.randn(64, 1, generator=rng, dtype=torch.float64) for _ in range(4))
    parameters = [*nn.ModuleDict(networks(model)).parameters()]

    def gradient(part):
        images, pixels = (t[part].view(-1, 1, 1, 1) for t in (x, e[2]))
        loss = Triangle(energy_penalty=0.1)(model, images, Noise(e[0][part], e[1][part], pixels)).loss
        return torch.autograd.grad(loss, parameters)

    halves = [gradient(slice(0, 32)), gradient(slice(32, 64))]
    for whole, first, second in zip(gradient(slice(0, 64)), *halves, strict=True):
        torch.testing.assert_close(whole, (first + second) / 2)


def test_latents_keep_their_precision_under_autocast():
    """The encoder alone may run in bfloat16: its terms are those of its rounded outputs, in single precision."""
    model, rng = model_of(), torch.Generator().manual_seed(0)
    for network in networks(model).values():
        network.float()
    x, z = torch.randn(64, 1, 1, 1, generator=rng), torch.randn(64, 1, generator=rng)

    class Rounded(nn.Module):
        def forward(self, x):
            mean = (3 * x.flatten(1)).bfloat16()
            return mean, torch.full_like(mean, -3)

    model.encoder = Rounded()
    with torch.autocast("cpu", torch.bfloat16):
        terms = Triangle()(model, x, Noise(z, z, None)).diagnostics
    mean = (3 * x.flatten(1)).bfloat16().double()
    exact = 0.5 * (math.exp(-3) + mean.square() - 1 + 3).sum(1).mean()
    assert terms["kl_to_prior"].dtype == torch.float32
    assert terms["kl_to_prior"].item() == pytest.approx(exact.item(), rel=1e-5)
