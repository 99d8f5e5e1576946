"""Networks: the sizes of the report's table 5, and faster layers that compute the same numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from thermoebm.networks import ConvGenerator, EnergyMLP, _FirstLayer, _LastLayer

SIZES = [8, 16, 28, 32, 64, 128]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("latent_dim", "count"), [(100, 20_301), (80, 18_301)])
def test_energy_has_the_parameters_of_table_5(latent_dim, count):
    """d·100 + 100 + 100² + 100 + 100 + 1: one scalar output, not the 100 that the table prints."""
    assert parameters(EnergyMLP(latent_dim)) == count


@pytest.mark.parametrize(("latent_dim", "size", "count"), [(100, 32, 12_138_243), (80, 64, 12_328_835)])
def test_generator_has_the_parameters_of_table_5(latent_dim, size, count):
    """16·(d·w₀ + Σ wᵢ wᵢ₊₁) weights and a bias a channel, w = 1024, 512, ..., 3."""
    assert parameters(ConvGenerator(latent_dim, (3, size, size))) == count


def test_energy_keeps_the_batch_shape_and_each_latent_to_itself():
    """f maps (..., d) to (...); a row's energy does not depend on the other rows."""
    torch.manual_seed(0)
    energy, z = EnergyMLP(5, hidden_dim=7).double(), torch.randn(2, 3, 5, dtype=torch.float64)
    assert energy(z).shape == (2, 3)
    assert energy(z[0, 0]).shape == ()
    torch.testing.assert_close(energy(z)[1, 2], energy(z[1, 2]), rtol=1e-12, atol=1e-12)


def test_energy_is_piecewise_linear_with_the_leak_as_slope():
    """With identity-like weights f(z) = leak²·z for z < 0 and z for z > 0."""
    energy = EnergyMLP(1, hidden_dim=1, leak=0.1)
    for p in energy.parameters():
        nn.init.constant_(p, 1.0 if p.dim() == 2 else 0.0)
    torch.testing.assert_close(energy(torch.tensor([[-3.0], [2.0]])), torch.tensor([-0.03, 2.0]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_generator_makes_every_size_within_range(size, channels):
    """(N, C, H, W), and a tanh at the end: huge latents saturate at ±1 and go no further."""
    torch.manual_seed(0)
    generator = ConvGenerator(5, (channels, size, size), features=2)
    image = generator(1e6 * torch.randn(3, 5))
    assert image.shape == (3, *generator.image_shape) == (3, channels, size, size)
    assert image.abs().max() == 1


@pytest.mark.parametrize(("size", "widths"), [(28, [32, 16]), (64, [32, 16, 8, 4]), (128, [32, 16, 8, 4, 2])])
def test_widths_halve_at_each_doubling(size, widths):
    """16 features at the first size, half as many after each doubling."""
    generator = ConvGenerator(5, (3, size, size), features=2)
    convolutions = [layer for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [c.in_channels for c in convolutions] == [5, *widths]
    assert [c.out_channels for c in convolutions] == [*widths, 3]


@pytest.mark.parametrize(
    "layer", [_FirstLayer(5, 6, 4), _FirstLayer(5, 6, 7), _LastLayer(6, 3, 4, 2, 1), _LastLayer(6, 1, 4, 2, 1)]
)
def test_faster_layers_are_transposed_convolutions(layer):
    """Values, and gradients of the input and of the weights, equal torch's own to float64 round-off."""
    torch.manual_seed(0)
    layer = layer.double()
    first = isinstance(layer, _FirstLayer)
    h = torch.randn((4, 5) if first else (4, 6, 9, 9), dtype=torch.float64, requires_grad=True)
    leaves = [h, layer.weight, layer.bias]
    weight, bias = layer.weight, layer.bias
    expected = functional.conv_transpose2d(
        h.view(4, 5, 1, 1) if first else h, weight, bias, layer.stride, layer.padding
    )
    cotangent = torch.randn_like(expected)
    result = layer(h)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(result, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalization", ["none", "group"])
def test_one_image_does_not_depend_on_the_others(normalization):
    """p(x|z) is a density of one image: replacing the other latents of a batch leaves it alone."""
    torch.manual_seed(0)
    generator = ConvGenerator(5, (1, 16, 16), features=2, normalization=normalization).double()
    z = torch.randn(3, 5, dtype=torch.float64)
    changed = torch.cat([z[:1], 100 * torch.randn(2, 5, dtype=torch.float64)])
    torch.testing.assert_close(generator(z)[0], generator(changed)[0], rtol=1e-12, atol=1e-12)


def test_group_normalisation_makes_hidden_layers_scale_free():
    """Scaling the first layer's output is undone by the normalisation that follows, and by nothing without it."""
    torch.manual_seed(0)
    change = {}
    for normalization in ("none", "group"):
        generator = ConvGenerator(5, (1, 16, 16), features=2, normalization=normalization).double()
        z = torch.randn(3, 5, dtype=torch.float64)
        before = generator(z)
        with torch.no_grad():
            for p in generator.layers[0].parameters():
                p *= 1e3
        change[normalization] = (generator(z) - before).abs().max().item()
    assert change["group"] < 1e-2 < change["none"]  # not zero in the first: GroupNorm divides by sqrt(var + 1e-5)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 32, 64), (2, 32, 32), (1, 4, 4), (3, 0, 0)])
def test_impossible_shapes_are_told_with_what_is_possible(shape):
    sizes = ", ".join(map(str, SIZES))
    with pytest.raises(ValueError, match=rf"cannot make images of shape .*size {sizes} with 1 or 3 channels") as error:
        ConvGenerator(5, shape)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EnergyMLP(0), "latent_dim 0"),
        (lambda: EnergyMLP(5, hidden_dim=0), "hidden_dim 0"),
        (lambda: ConvGenerator(0, (1, 8, 8)), "latent_dim 0"),
        (lambda: ConvGenerator(5, (1, 8, 8), features=0), "features 0"),
        (lambda: ConvGenerator(5, (1, 8, 8), normalization="batch"), "'batch'; choose 'none' or 'group'"),
    ],
)
def test_bad_values_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
