"""What a VAE or a divergence triangle cannot be made of is told in a sentence."""

import re

import pytest
import torch
from torch import nn

from tests.modules.triangle import model_of
from thermoebm.modules import VAE, DivergenceTriangle
from thermoebm.networks import ConvEncoder, ConvEnergy

KINDS = [VAE, DivergenceTriangle]


class Head(nn.Module):
    """Returns what a function makes of one number for each image."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(64, 1), function

    def forward(self, x):
        return self.function(self.layer(x.flatten(1)))


ONE_TENSOR = (
    "DivergenceTriangle: Head must return the mean and the log variance of two images' latents as two tensors of "
)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"encoder": ConvEncoder(7, (1, 8, 8), 2)},
            "DivergenceTriangle: the generator takes latents of size 6, the encoder infers size 7.",
        ),
        (
            {"encoder": ConvEncoder(6, (1, 16, 16), 2)},
            "DivergenceTriangle: the generator makes images of shape (1, 8, 8), the encoder takes (1, 16, 16); give "
            "both the same image_shape.",
        ),
        (
            {"energy": ConvEnergy((3, 8, 8), 2)},
            "DivergenceTriangle: the generator makes images of shape (1, 8, 8), the energy takes (3, 8, 8); give both "
            "the same image_shape.",
        ),
        ({"encoder": Head(lambda f: f.expand(-1, 6))}, f"{ONE_TENSOR}shape (2, 6)."),
        ({"encoder": Head(lambda f: torch.stack([f.expand(-1, 6)] * 2))}, f"{ONE_TENSOR}shape (2, 6)."),
        ({"encoder": Head(lambda f: (f, f))}, f"{ONE_TENSOR}shape (2, 6)."),
        ({"encoder": Head(lambda f: (f.expand(-1, 6), None))}, f"{ONE_TENSOR}shape (2, 6)."),
        (
            {"energy": Head(lambda f: f)},
            "DivergenceTriangle: Head returns (2, 1) for two images; it must return one energy for each, (2,).",
        ),
        (
            {"energy": Head(lambda f: (f, f))},
            "DivergenceTriangle: Head returns tuple for two images; it must return one energy for each, (2,).",
        ),
        (
            {"energy": nn.Linear(3, 1)},
            "DivergenceTriangle: Linear cannot take images of shape (2, 1, 8, 8): mat1 and mat2 shapes cannot be "
            "multiplied (16x8 and 3x1).",
        ),
        (
            {"prior_sigma": 0.0},
            "DivergenceTriangle: prior_sigma is 0.0 and likelihood_sigma 0.3; both must be positive and finite in "
            "single precision.",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(fields, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        model_of(DivergenceTriangle, **fields)


class Own(nn.Module):
    """A generator that says of itself what it is given."""

    def __init__(self, outputs=64, side=8, **said):
        super().__init__()
        self.layer, self.side = nn.Linear(4, outputs), side
        for name, value in said.items():
            setattr(self, name, value)

    def forward(self, z):
        return self.layer(z).view(-1, 1, self.side, self.side)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("generator", "told"),
    [
        ("x", "the generator is 'x'; give a torch.nn.Module."),
        (Own(), "Own has no latent_dim; set self.latent_dim, the size of a latent, in its __init__."),
        (Own(latent_dim=0), "Own.latent_dim is 0; it must be a whole number from 1 on."),
        (Own(latent_dim=5), "Own cannot take latents of shape (2, 5) in torch.float32 (RuntimeError: mat1 and mat2 "),
        (
            Own(latent_dim=4, image_shape=(1, 16, 16)),
            "Own makes images of shape (1, 8, 8), and its image_shape is (1, 16, 16); make them agree, or leave ",
        ),
        (nn.Linear(4, 64), "Linear has no latent_dim; set self.latent_dim, the size of a latent, in its __init__."),
    ],
)
def test_a_generator_of_ones_own_is_told_what_it_lacks(kind, generator, told):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{kind.__name__}: {told}')}"):
        kind(generator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_of_ones_own_needs_no_more_than_latent_dim(kind):
    model = kind(Own(latent_dim=4))
    assert model.image_shape == model.encoder.image_shape == (1, 8, 8)
    assert model.generate(2, torch.Generator()).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_another_shape_are_told(kind, shape):
    model = model_of(kind)
    model.check_images((1, 8, 8))
    told = (
        f"{kind.__name__}: the generator makes images of shape (1, 8, 8), the data set has {shape}; set the "
        "generator's image_shape or the data's image size."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        model.check_images(shape)
