"""Any modules of the right shapes are the networks of a model; what is wrong with others is told when it is made."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.runtime import cost
from thermoebm.samplers import ULA

D = 8
SHORT = {"prior_sampler": ULA(0.1, 3), "posterior_sampler": ULA(0.01, 2), "compile": "off"}


class Plain(nn.Module):
    """Another network, or what a function makes of it, without its attributes."""

    def __init__(self, network, function=lambda network, z: network(z), **attributes):
        super().__init__()
        self.network = network
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, z):
        return self.function(self.network, z)


def energy(function=lambda network, z: network(z).squeeze(-1), last=1, **attributes):
    return Plain(nn.Sequential(nn.Linear(D, 5), nn.SiLU(), nn.Linear(5, last)), function, **attributes)


def images(function=lambda network, z: network(z), *layers, **attributes):
    network = nn.Sequential(nn.Linear(D, 32), *layers, nn.Linear(32, 48), nn.Unflatten(-1, (3, 4, 4)))
    return Plain(network, function, **{"latent_dim": D, **attributes})


def of_shapes_only():
    return Plain(EnergyMLP(D, 16)), Plain(ConvGenerator(D, (1, 8, 8), 2), latent_dim=D)


def batch(shape=(1, 8, 8)):
    return torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_model_of_modules_that_have_only_shapes_is_that_of_the_networks_in_them():
    torch.manual_seed(0)
    own = LatentEBM(*of_shapes_only(), **SHORT)
    ours = LatentEBM(own.energy.network, own.generator.network, **SHORT)
    assert (own.energy.latent_dim, own.generator.image_shape) == (D, (1, 8, 8))
    losses = [model.loss(batch(), model.stream("test")) for model in (own, ours)]
    assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss, list(m.parameters())) for loss, m in zip(losses, (own, ours), strict=True)]
    assert all(map(torch.equal, *gradients))
    own.check_images((1, 8, 8))


def test_either_network_may_say_the_size_of_latents():
    assert LatentEBM(energy(latent_dim=D), images(latent_dim=None), **SHORT).generator.latent_dim == D


FAULTS = {
    "no module": (lambda: (None, images()), "the energy is None; give a torch.nn.Module"),
    "no size": (
        lambda: (energy(), images(latent_dim=None)),
        "neither Plain nor Plain has latent_dim; set self.latent_d",
    ),
    "no number": (lambda: (energy(latent_dim="8"), images()), "Plain.latent_dim is '8'; it must be a whole number"),
    "column": (
        lambda: (energy(lambda network, z: network(z)), images()),
        r"Plain returns shape (2, 1) for latents (2, 8); it must return one energy for each latent, (2,), for instance",
    ),
    "one latent": (lambda: (energy(lambda network, z: network(z).squeeze()), images()), "shape () for latents (1, 8)"),
    "one batch": (
        lambda: (energy(lambda network, z: network(z).squeeze(1)), images()),
        "shape (2, 9, 1) for latents (2, 9, 8); it must return one energy for each latent, (2, 9)",
    ),
    # Where images are as many as numbers in a latent, the shape is right and the energies are wrong.
    "wrong axis": (
        lambda: (energy(lambda network, z: network(z).sum(1 - z.dim()), D), images()),
        "one energy for each",
    ),
    "other size": (
        lambda: (EnergyMLP(4), images(latent_dim=4)),
        "Plain cannot take latents of shape (2, 4) in torch.fl",
    ),
    "no tensor": (
        lambda: (energy(lambda network, z: (network(z),)), images()),
        "Plain returns a tuple; it must return",
    ),
    "detached": (
        lambda: (energy(lambda network, z: network(z.detach()).squeeze(-1)), images()),
        "has no gradient in its",
    ),
    "fixed": (lambda: (energy(), images(lambda network, z: network(z).detach())), "has no gradient in its latents"),
    "flat": (
        lambda: (energy(), images(lambda network, z: network(z).flatten(1))),
        "Plain returns shape (2, 48) for latents (2, 8); it must return one image for each latent, (2, C, H, W)",
    ),
    "other image": (
        lambda: (energy(), images(image_shape=(1, 4, 4))),
        "makes images of shape (3, 4, 4), and its image_shape is (1, 4, 4)",
    ),
    "no parameter": (lambda: (Plain(nn.Identity(), lambda _, z: z.sum(-1)), images()), "no floating-point parameter"),
    "precision": (lambda: (energy(), images().double()), "cannot take latents of shape (2, 8) in torch.float32"),
    "shared": (lambda: (images(lambda n, z: n(z).sum((-1, -2, -3))),) * 2, "share the parameter network.0.weight"),
    "batch norm": (
        lambda: (energy(), images(lambda network, z: network(z), nn.BatchNorm1d(32))),
        "Plain has the layer network.1, BatchNorm1d, by which the density of a latent would depend on the others",
    ),
    "dropout": (
        lambda: (energy(), images(lambda network, z: network(z), nn.Dropout(0.1))),
        "Plain has the layer network.1, Dropout, by which the density of a latent would be another at each call",
    ),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_network_lacks_is_told_in_a_sentence(monkeypatch, fault, large):
    monkeypatch.setattr(cost, "LARGE", 0 if large else 10**6)
    networks, told = FAULTS[fault]
    with pytest.raises(ValueError, match=r"LatentEBM: ") as error:
        LatentEBM(*networks(), **SHORT)
    assert told in str(error.value)
    assert len(str(error.value)) < 300


def test_layers_that_are_the_same_function_at_each_call_are_taken():
    quiet = images(lambda network, z: network(z), nn.BatchNorm1d(32), nn.Dropout(0.1)).eval()
    assert LatentEBM(energy(), quiet, **SHORT).generate(3, torch.Generator()).shape == (3, 3, 4, 4)


@pytest.mark.parametrize("large", [False, True])
def test_the_check_leaves_networks_and_random_numbers_as_they_are(monkeypatch, large):
    """A network that counts its passes, as running statistics do, and draws at random."""
    monkeypatch.setattr(cost, "LARGE", 0 if large else 10**6)
    layer, seen = nn.Linear(D, 1), []
    layer.register_buffer("passes", torch.zeros(()))

    def function(network, z):
        seen.append(z.device.type)
        network.passes += 1
        return network(z).squeeze(-1) + 0 * torch.rand(z.shape[:-1], device=z.device)

    own, generator = Plain(layer, function), images()
    before, state = copy.deepcopy(own.state_dict()), torch.random.get_rng_state()
    LatentEBM(own, generator, **SHORT)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert {*seen} == {"meta" if large else "cpu"}
    assert all(p.grad is None and p.requires_grad for p in own.parameters())


def test_a_network_that_asks_for_values_is_given_some(monkeypatch):
    monkeypatch.setattr(cost, "LARGE", 0)
    asking = energy(lambda network, z: network(z).squeeze(-1) * (1 if z.abs().max().item() < 9 else 0))
    assert LatentEBM(asking, images(), **SHORT).chains.energy_flops == 2 * (8 * 5 + 5)


def test_layers_that_wait_for_their_first_pass_are_made():
    lazy = Plain(
        nn.Sequential(nn.LazyLinear(5), nn.SiLU(), nn.LazyLinear(1)), lambda network, z: network(z).squeeze(-1)
    )
    model = LatentEBM(lazy, images(), **SHORT)
    assert model.energy.network[0].weight.shape == (5, D)
    assert torch.isfinite(model.loss(batch((3, 4, 4)), model.stream("test")))


def test_operations_are_counted_alike_with_and_without_values(monkeypatch):
    for network in (EnergyMLP(D), ConvGenerator(D, (1, 28, 28), 4), ConvGenerator(D, (3, 32, 32), 4, 0.2, "group")):
        counts = set()
        for large in (0, 10**6):
            monkeypatch.setattr(cost, "LARGE", large)
            counts.add(cost.forward_flops(network))
        assert len(counts) == 1


def test_a_model_made_in_python_is_loaded_with_what_it_was_made_with(tmp_path):
    """Which a trainer's checkpoint does not have."""
    networks = of_shapes_only()
    model = LatentEBM(*networks, **SHORT, likelihood_sigma=0.7)
    off = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, **off)
    trainer.fit(model, *[torch.utils.data.DataLoader(batch(), batch_size=5)] * 2)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    energy, generator = of_shapes_only()
    loaded = LatentEBM.load_from_checkpoint(
        tmp_path / "own.ckpt", energy=energy, generator=generator, **SHORT, likelihood_sigma=0.7
    )
    first, second = (m.loss(batch(), m.stream("test")) for m in (model, loaded))
    assert torch.equal(first, second)
    with pytest.raises(
        ValueError, match=r"own.ckpt: it has no arguments of LatentEBM; give those it was made with, or "
    ):
        LatentEBM.load_from_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        loaded.load_from_checkpoint(tmp_path / "own.ckpt")
