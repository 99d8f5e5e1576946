"""The divergence triangle and the VAE as modules: networks that fit, noise by streams, images and energies."""

import pytest
import torch
from torch import nn

from tests.modules.triangle import model_of
from thermoebm.modules import VAE, DivergenceTriangle
from thermoebm.networks import ConvEncoder, ConvEnergy, ConvGenerator, Generator
from thermoebm.objectives import Triangle

KINDS = [VAE, DivergenceTriangle]


def images(count=6, seed=5):
    return torch.tanh(torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# Networks


@pytest.mark.parametrize(("shape", "features"), [((1, 8, 8), 3), ((3, 32, 32), 2)])
def test_networks_that_are_not_given_follow_the_generator(shape, features):
    """Of its images and as wide: the widest layers have 16 times as many channels."""
    model = DivergenceTriangle(ConvGenerator(5, shape, features))
    assert model.encoder.latent_dim == 5
    assert model.encoder.image_shape == model.energy.image_shape == model.image_shape == shape
    for network in (model.encoder, model.energy):
        widths = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        assert (max(widths), widths[0]) == (16 * features, features * 16 // 2 ** (len(widths) - 1))
    mean, log_variance = model.encoder(torch.zeros(2, *shape))
    assert mean.shape == log_variance.shape == (2, 5)


def test_a_generator_that_says_no_width_has_networks_of_the_default():
    class Plain(Generator):
        latent_dim, image_shape = 4, (1, 8, 8)

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 64)

        def forward(self, z):
            return self.layer(z).view(-1, 1, 8, 8)

    model = DivergenceTriangle(Plain())
    sizes = [sum(p.numel() for p in network.parameters()) for network in (model.encoder, model.energy)]
    expected = [ConvEncoder(4, (1, 8, 8), 64), ConvEnergy((1, 8, 8), 64)]
    assert sizes == [sum(p.numel() for p in network.parameters()) for network in expected]


@pytest.mark.parametrize(
    ("kind", "names"), [(VAE, "generator encoder"), (DivergenceTriangle, "energy generator encoder")]
)
def test_networks_are_named_in_the_order_of_the_optimizers(kind, names):
    model = model_of(kind)
    assert [*model.networks()] == names.split()
    assert [network for network, _ in model.optimizer_settings] == [*model.networks().values()]
    for name, network in model.networks().items():
        assert getattr(model, name) is network
    in_networks = {id(p) for network in model.networks().values() for p in network.parameters()}
    assert {id(p) for p in model.parameters()} == in_networks


@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_of_all_networks(kind):
    """Within the context every parameter has its average, and after it its own."""
    model = model_of(kind, average_decay=0.5)
    own = [p.detach().clone() for p in model.weights()]
    assert len(own) == len(list(model.parameters()))
    with torch.no_grad():
        for p in model.weights():
            p.add_(2.0)
    model.averaged.update(model.weights(), None)
    with model.averaged_weights():
        for p, before in zip(model.weights(), own, strict=True):
            assert not torch.equal(p, before + 2)
            assert not torch.equal(p, before)
    for p, before in zip(model.weights(), own, strict=True):
        torch.testing.assert_close(p.detach(), before + 2)


# Noise


@pytest.mark.parametrize("kind", KINDS)
def test_noise_comes_only_from_the_stream(kind):
    """The same stream gives the same numbers, another one others, and torch's own stream is left where it is."""
    model, x = model_of(kind), images()
    before = torch.get_rng_state()
    found = [
        (model.loss(x, rng(seed)).detach(), model.generate(3, rng(seed)), model.reconstruct(x, rng(seed)))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for first, same, other in zip(*found, strict=True):
        assert torch.equal(first, same)
        assert not torch.equal(first, other)
        assert not first.requires_grad


def test_generated_images_have_noise_in_the_loss_only_if_the_terms_say_so():
    """It changes the generated images, whose energies are measured, and no other noise."""
    x = images()
    noisy, plain = (model_of(DivergenceTriangle, terms=Triangle(pixel_noise=n)).output(x, rng()) for n in (True, False))
    assert noisy.diagnostics["energy_generated"] != plain.diagnostics["energy_generated"]
    for name in ("energy_data", "reconstruction", "kl_to_prior"):
        assert noisy.diagnostics[name] == plain.diagnostics[name]


def test_the_loss_is_that_of_the_terms():
    """A VAE's has none of an energy; a triangle's has those that it was given."""
    x = images()
    vae, triangle = model_of(VAE), model_of(DivergenceTriangle, terms=Triangle(energy_weight=0, recovery_weight=0))
    assert set(vae.output(x, rng()).diagnostics) == {"reconstruction", "kl_to_prior", "evidence_bound"}
    torch.testing.assert_close(vae.loss(x, rng()), triangle.loss(x, rng()))
    torch.testing.assert_close(vae.loss(x, rng()), -vae.output(x, rng()).diagnostics["evidence_bound"])


# Images and energies


def test_interpolations_end_at_the_reconstructions_from_means():
    """The first and the last image are g(μ(x)) and g(μ(y)), the middle one g of the mean of both."""
    model, x, y = model_of(VAE), images(), images(seed=6)
    between = model.interpolate(x, y, 5)
    with torch.no_grad():
        start, end = model.encoder(x)[0], model.encoder(y)[0]
        expected = [model.generator(z) for z in (start, (start + end) / 2, end)]
    assert between.shape == (6, 5, 1, 8, 8)
    for step, image in zip((0, 2, 4), expected, strict=True):
        torch.testing.assert_close(between[:, step], image)
    assert not torch.equal(between[:, 0], between[:, 4])


def test_energies_are_those_of_the_network_without_gradient():
    model, x = model_of(DivergenceTriangle), images()
    found = model.energies(x)
    assert not found.requires_grad
    assert torch.equal(found, model.energy(x))


def test_samples_are_images_of_latents_of_the_prior():
    """As wide as prior_sigma says; a reconstruction is the image of one latent of the encoder's Gaussian."""
    narrow, wide = model_of(VAE, prior_sigma=1.0), model_of(VAE, prior_sigma=3.0)
    z = torch.randn(4, 6, generator=rng())
    with torch.no_grad():
        torch.testing.assert_close(narrow.generate(4, rng()), narrow.generator(z))
        torch.testing.assert_close(wide.generate(4, rng()), wide.generator(3 * z))
        mean, log_variance = narrow.encoder(images(4))
        reconstruction = narrow.generator(mean + log_variance.exp().sqrt() * z)
    torch.testing.assert_close(narrow.reconstruct(images(4), rng()), reconstruction)
