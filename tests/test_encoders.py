"""Encoders and energies of images: the generator's layers the other way round, image by image."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.test_networks import SIZES, parameters
from thermoebm.networks import ConvEncoder, ConvEnergy, ConvGenerator


def outputs(network, x):
    """Everything that a network says of each image, (N, m)."""
    said = network(x)
    return torch.cat(said, -1) if isinstance(said, tuple) else said.unsqueeze(-1)


def both(shape, features=2, leak=0.2):
    """An encoder and an energy of images of this shape, in float64."""
    torch.manual_seed(0)
    return [ConvEncoder(5, shape, features, leak).double(), ConvEnergy(shape, features, leak).double()]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_is_taken(size, channels):
    """(N, C, H, W) to two (N, d), and to (N,), also for one image and for none."""
    encoder, energy = both((channels, size, size))
    assert encoder.image_shape == energy.image_shape == (channels, size, size)
    assert encoder.latent_dim == 5
    for n in (3, 1, 0):
        x = torch.rand(n, *energy.image_shape, dtype=torch.float64) * 2 - 1
        assert [part.shape for part in encoder(x)] == [(n, 5), (n, 5)]
        assert energy(x).shape == (n,)


@pytest.mark.parametrize("size", SIZES)
def test_without_rectifiers_and_biases_each_is_the_transpose_of_a_generator(size):
    """The generator before its tanh is then x = A z. With its weights, ⟨Aᵀx, z⟩ = ⟨x, A z⟩.

    So each layer has the widths of one of the generator's layers and undoes its size.
    """
    shape = (3, size, size)
    for network, numbers in zip(both(shape, leak=1.0), (10, 1), strict=True):
        generator = ConvGenerator(numbers, shape, 2, leak=1.0).double()
        up = [layer for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
        down = [layer for layer in network.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            for its, mine in zip(reversed(up), down, strict=True):
                mine.weight.copy_(its.weight if isinstance(mine, nn.Conv2d) else its.weight.flatten(1))
                for layer in (its, mine):
                    layer.bias.zero_()
        x, z = torch.randn(2, *shape, dtype=torch.float64), torch.randn(2, numbers, dtype=torch.float64)
        expected = (x * generator.layers[:-1](z)).sum((1, 2, 3))
        torch.testing.assert_close((outputs(network, x) * z).sum(-1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [8, 28])
def test_a_rectifier_follows_each_convolution_and_not_the_last_layer(size):
    """Written out: h <- max(h, leak h) after each convolution, then a weighted sum of the whole map."""
    for network in both((1, size, size), leak=0.3):
        x = torch.randn(4, 1, size, size, dtype=torch.float64)
        *convolutions, last = zip(*2 * [iter(network.parameters())], strict=True)
        h = x
        for weight, bias in convolutions:
            h = functional.conv2d(h, weight, bias, 2, 1)
            h = torch.maximum(h, 0.3 * h)
        expected = torch.einsum("nchw,ochw->no", h, last[0].unflatten(1, h.shape[1:])) + last[1]
        torch.testing.assert_close(outputs(network, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_what_is_said_of_an_image_does_not_depend_on_the_others(shape):
    """In training too: alone, in another order and beside other images it is the same."""
    for network in both(shape):
        x = torch.randn(4, *shape, dtype=torch.float64)
        said = outputs(network.train(), x)
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(outputs(network, x[order]), said[order], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outputs(network, x[1:2]), said[1:2], rtol=1e-12, atol=1e-12)
        changed = torch.cat([x[:1], 100 * torch.randn(3, *shape, dtype=torch.float64)])
        torch.testing.assert_close(outputs(network, changed)[0], said[0], rtol=1e-12, atol=1e-12)
        assert all((a - b).abs().max() > 1e-9 for a, b in pairwise(said))  # and it does depend on the image


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_gradients_reach_every_weight_and_every_pixel(shape):
    """The generator learns through both networks, so pixels need their gradient too."""
    for network in both(shape):
        x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
        total = (outputs(network, x) ** 2).sum()
        for gradient in torch.autograd.grad(total, [x, *network.parameters()]):
            assert (gradient != 0).all()


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: ConvEncoder(32, (1, 8, 8), features=8), 133_312),
        (lambda: ConvEncoder(32, (1, 28, 28), features=4), 234_144),
        (lambda: ConvEnergy((1, 28, 28), features=4), 36_513),
        (lambda: ConvEnergy((3, 32, 32)), 10_516_225),
    ],
)
def test_parameters_follow_from_the_size_of_the_image(network, count):
    """16·(C·w₁ + Σ wᵢ wᵢ₊₁) weights for maps of w₁, w₂, ... channels, and a bias a channel; then a linear layer.

    For 28x28 images and 4 features: 16·(32 + 32·64) + 96, and 64·7² weights and a bias for each of 1 or 2·32 outputs.
    """
    assert parameters(network()) == count


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 32, 64), (2, 32, 32), (1, 4, 4), (3, 0, 0)])
@pytest.mark.parametrize(
    ("make", "name", "role"),
    [(lambda shape: ConvEncoder(5, shape), "ConvEncoder", "encoder"), (ConvEnergy, "ConvEnergy", "energy")],
)
def test_impossible_shapes_are_told_with_what_is_possible(make, name, role, shape):
    with pytest.raises(ValueError, match=f"^{name} cannot take images") as error:
        make(shape)
    assert str(error.value) == (
        f"{name} cannot take images of shape {shape}: it takes square images of size "
        f"{', '.join(map(str, SIZES))} with 1 or 3 channels; resize the data or give another {role}."
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ConvEncoder(0, (1, 8, 8)), "ConvEncoder: latent_dim 0 and features 64 must be at least 1"),
        (lambda: ConvEncoder(5, (1, 8, 8), features=0), "ConvEncoder: latent_dim 5 and features 0 must be"),
        (lambda: ConvEnergy((1, 8, 8), features=0), "ConvEnergy: features 0 must be at least 1"),
        (lambda: ConvEncoder(5, (1, 8, 8), leak=float("nan")), "ConvEncoder: leak is nan; it must be finite"),
        (lambda: ConvEnergy((1, 8, 8), leak=float("inf")), "ConvEnergy: leak is inf; it must be finite"),
    ],
)
def test_bad_values_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
