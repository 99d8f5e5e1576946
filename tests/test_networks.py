"""Networks: the sizes of the report's table 5, and faster layers that compute the same numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from thermoebm.networks import ConvGenerator, EnergyMLP, _FirstLayer, _LastLayer, _TrainedStatistics

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


@pytest.mark.parametrize("output", ["scalar", "vector"])
def test_energy_keeps_the_batch_shape_and_each_latent_to_itself(output):
    """f maps (..., d) to (...); a row's energy does not depend on the other rows."""
    torch.manual_seed(0)
    energy, z = EnergyMLP(5, hidden_dim=7, output=output).double(), torch.randn(2, 3, 5, dtype=torch.float64)
    assert energy(z).shape == (2, 3)
    assert energy(z[0, 0]).shape == ()
    torch.testing.assert_close(energy(z)[1, 2], energy(z[1, 2]), rtol=1e-12, atol=1e-12)


def test_energy_is_piecewise_linear_with_the_leak_as_slope():
    """With identity-like weights f(z) = leak²·z for z < 0 and z for z > 0."""
    energy = EnergyMLP(1, hidden_dim=1, leak=0.1)
    for p in energy.parameters():
        nn.init.constant_(p, 1.0 if p.dim() == 2 else 0.0)
    torch.testing.assert_close(energy(torch.tensor([[-3.0], [2.0]])), torch.tensor([-0.03, 2.0]))


def test_vector_energy_is_the_rectified_outputs_added_up():
    """f(z) = Σ_k lrelu(W₃ lrelu(W₂ lrelu(W₁ z + b₁) + b₂) + b₃)_k, written out with loops; d outputs for d latents."""
    torch.manual_seed(0)
    energy = EnergyMLP(4, hidden_dim=6, leak=0.1, output="vector").double()
    z = 3 * torch.randn(8, 4, dtype=torch.float64)
    h, signs = z, []
    for weight, bias in zip(*2 * [iter(energy.parameters())], strict=True):
        h = torch.stack([torch.stack([w @ row + b for w, b in zip(weight, bias, strict=True)]) for row in h])
        signs.append(h > 0)
        h = torch.maximum(h, 0.1 * h)
    assert h.shape == (8, 4)
    assert 0 < signs[-1].double().mean() < 1  # the last rectifier matters
    torch.testing.assert_close(energy(z), sum(h[:, k] for k in range(4)), rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize(
    "layer", [_FirstLayer(5, 6, 4), _FirstLayer(5, 6, 7), _LastLayer(6, 3, 4, 2, 1), _LastLayer(6, 1, 4, 2, 1)]
)
def test_faster_layers_are_transposed_convolutions(layer, on_cpu, monkeypatch):
    """Values, and gradients of the input and of the weights, equal torch's own to float64 round-off."""
    torch.manual_seed(0)
    if not on_cpu:  # the algorithm for other devices
        for name in ("_folded", "_shuffled"):
            monkeypatch.setattr(_LastLayer, name, _LastLayer._added)
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


@pytest.mark.parametrize("normalization", ["none", "group", "trained_statistics"])
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


def randomised(generator):
    """The generator with other statistics, scales and shifts than it is born with."""
    for module in generator.modules():
        if isinstance(module, _TrainedStatistics):
            for p in module.parameters():
                nn.init.uniform_(p, 0.5, 2.0)
    return generator


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_trained_statistics_are_torchs_batch_norm_in_eval_mode_after_every_convolution(shape):
    """The whole generator rebuilt from torch's own transposed convolutions and batch_norm with the same numbers."""
    torch.manual_seed(0)
    generator = ConvGenerator(5, shape, 2, leak=0.3, normalization="trained_statistics").double()
    z = torch.randn(4, 5, dtype=torch.float64)
    convolutions = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    norms = [m for m in randomised(generator).modules() if isinstance(m, _TrainedStatistics)]
    h = z.view(4, 5, 1, 1)
    for i, (c, n) in enumerate(zip(convolutions, norms, strict=True)):
        if i > 0:
            h = functional.leaky_relu(h, 0.3)
        h = functional.conv_transpose2d(h, c.weight, c.bias, c.stride, c.padding)
        h = functional.batch_norm(h, n.mean.detach(), n.variance.detach(), n.scale, n.bias, training=False)
    torch.testing.assert_close(generator(z), h.tanh(), rtol=1e-11, atol=1e-11)


def test_trained_statistics_learn_and_count_as_parameters_and_see_no_data():
    """Their gradients have the closed form of the affine map; four parameters a channel; no buffer anywhere.

    With c = scale/sqrt(variance + 1e-5) and a cotangent v: -Σ v c, -½ Σ v (h - mean) scale (variance + 1e-5)^-3/2.
    """
    torch.manual_seed(0)
    plain, generator = (ConvGenerator(5, (3, 16, 16), 2, normalization=n) for n in ("none", "trained_statistics"))
    assert parameters(generator) - parameters(plain) == 4 * (32 + 16 + 3)
    assert not list(generator.buffers())
    assert [p.unique().tolist() for p in generator.layers[1].parameters()] == [[0], [1], [1], [0]]

    layer = randomised(_TrainedStatistics(2)).double()
    h, v = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    mean, variance, scale = (p.detach().view(2, 1, 1) for p in (layer.mean, layer.variance, layer.scale))
    gradients = torch.autograd.grad(layer(h), list(layer.parameters()), v)
    root = (variance + 1e-5).sqrt()
    per_pixel = -v * scale / root, -v * (h - mean) * scale / (2 * root**3), v * (h - mean) / root, v
    for gradient, expected in zip(gradients, per_pixel, strict=True):
        torch.testing.assert_close(gradient, expected.sum((0, 2, 3)), rtol=1e-12, atol=1e-12)


def test_a_variance_trained_below_zero_makes_images_that_are_not_a_number():
    """As in the code; nothing is clamped in silence."""
    generator = ConvGenerator(5, (1, 8, 8), 2, normalization="trained_statistics")
    assert generator(torch.ones(1, 5)).isfinite().all()
    with torch.no_grad():
        generator.layers[-2].variance.fill_(-0.1)
    assert generator(torch.ones(1, 5)).isnan().all()


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
        (lambda: ConvGenerator(5, (1, 8, 8), normalization="batch"), "'batch'; choose 'none'"),
        (lambda: EnergyMLP(5, leak=float("inf")), "EnergyMLP: leak is inf; it must be finite"),
        (lambda: ConvGenerator(5, (1, 8, 8), leak=float("nan")), "ConvGenerator: leak is nan; it must be finite"),
        (lambda: EnergyMLP(5, output="sum"), "'sum'; choose 'scalar' or 'vector'"),
    ],
)
def test_bad_values_are_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()
