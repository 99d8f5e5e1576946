"""Gradients drawn from a loss: their law on known ones, and what they leave behind."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from thermoebm.data import Digits
from thermoebm.data.base import Images
from thermoebm.gradients.draws import measure
from thermoebm.gradients.statistics import Decomposition, Design
from thermoebm.runtime import randomness


class Known(nn.Module):
    """Gradients 1 + mean of the batch's images + 0.1 N(0, 1), as long as a buffer that counts the calls is put back.

    p and q enter as p + q, so that autograd returns one tensor for both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.ParameterDict({"a": torch.zeros(4)})
        self.generator = nn.ParameterDict({"p": torch.zeros(4), "q": torch.zeros(4), "unused": torch.zeros(3)})
        self.register_buffer("calls", torch.zeros(1))
        self.seen: list[Tensor] = []
        self.global_draws: list[float] = []
        self.noise: list[float] = []

    def loss(self, x: Tensor, rng: torch.Generator) -> Tensor:
        self.seen.append(x)
        self.global_draws.append(torch.rand(1).item())
        noise = torch.randn(4, generator=rng)
        self.noise.append(noise[0].item())
        self.calls += 1
        self.eval()
        g = 1 + x.flatten(1).mean(0) + 0.1 * noise + 1000 * (self.calls - 1)
        p, q = self.generator["p"], self.generator["q"]
        return (self.energy["a"] * g).sum() + ((p + q) * g).sum()

    def measured(self, design: Design, name: str = "a", *counters: int, batch_size: int = 12) -> Decomposition:
        noise, order = (randomness.stream("cpu", 0, part, *counters) for part in (name, f"{name} order"))
        return measure(self.loss, self, loader(batch_size=batch_size), noise, order, design)


IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 1, 2, 2)).astype(np.uint8))


def loader(images: Tensor = IMAGES, batch_size: int = 12) -> DataLoader:
    dataset = Images(images)
    return DataLoader(dataset, batch_size, collate_fn=lambda batch: batch)


def test_data_and_sampler_noise_of_a_known_model_within_four_standard_errors():
    """Half of the images are in each batch: without replacement, the mean of B of N has variance S²/B (1 - B/N).

    Blocks are pairs: the two halves of one shuffled epoch would give S²/B, draws with replacement (N - 1)/N of it.
    """
    report = Known().measured(Design(512, 2, 256)).report()
    pixels = IMAGES.flatten(1).double() / 127.5 - 1
    data = (pixels.var(0) / 12 * (1 - 12 / 24)).mean().item()
    square = (1 + pixels.mean(0)).square().mean().item()
    expected = {"data": data, "sampler": 0.01, "total": data + 0.01, "mean_square": data + 0.01 + square}
    for part, share in (("energy", 1.0), ("generator.p", 1.0), ("generator.q", 1.0), ("both", 12 / 15)):
        for quantity, value in expected.items():
            estimate = report[part][quantity]
            assert abs(estimate.value - share * value) < 4 * estimate.standard_error, (part, quantity)
            assert estimate.standard_error < 0.1 * share * value
    assert report["generator.unused"]["total"][:2] == (0, 0)  # outside the graph counts as a zero gradient


def test_a_repetition_keeps_its_images_and_a_mini_batch_has_its_own():
    (model := Known()).measured(Design(4, 3, 2))
    batches = torch.stack(model.seen).view(4, 3, -1)
    assert (batches == batches[:, :1]).all()
    assert len(batches[:, 0].unique(dim=0)) == 4


def test_draws_repeat_by_name_and_counter():
    """Images and noise, whatever torch's own generator has drawn; and what layers like dropout draw from that one."""
    images, noise, dropout = [], [], []
    for name, counters in (("a", (0,)), ("a", (0,)), ("a", (1,)), ("b", (0,))):
        torch.rand(5)
        model = Known()
        model.measured(Design(4, 2, 2), name, *counters)
        images.append(tuple(torch.stack(model.seen).flatten().tolist()))
        noise.append(tuple(model.noise))
        dropout.append(tuple(model.global_draws))
    for seen in (images, noise, dropout):
        assert seen[0] == seen[1]
        assert len(set(seen)) == 3
    assert len(set(noise[0])) == len(set(dropout[0])) == 8  # afresh in each repetition


def test_images_follow_one_stream_and_noise_the_other():
    seen = []
    for noise, order in ((0, 0), (0, 1), (1, 0)):
        model = Known()
        streams = (randomness.stream("cpu", 0, "noise", noise), randomness.stream("cpu", 0, "order", order))
        measure(model.loss, model, loader(), *streams, Design(4, 2, 2))
        seen.append((tuple(torch.stack(model.seen).flatten().tolist()), tuple(model.noise)))
    (images, noise), (other_order, same_noise), (same_order, other_noise) = seen
    assert images == same_order != other_order
    assert noise == same_noise != other_noise


def test_nothing_is_left_behind_in_the_model():
    """Gradients, buffers, modes and torch's random state."""
    model = Known().train()
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    state = torch.get_rng_state()
    model.measured(Design(4, 2, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all((p.grad == 7).all() and (p == 0).all() for p in model.parameters())
    assert model.calls == 0
    assert model.training
    assert model.energy.training


class Numbered(NamedTuple):
    images: Tensor
    numbers: Tensor


class WithNumbers(Images):
    """Batches are tuples of images and their positions."""

    def __getitems__(self, indices: list[int]) -> Numbered:
        return Numbered(super().__getitems__(indices), torch.tensor(indices))


def test_the_loss_gets_what_the_loader_yields():
    """A named tuple, whose images are those of its numbers, and with which gradients are the same."""
    model, seen = Known(), []

    def loss(batch: Numbered, rng: torch.Generator) -> Tensor:
        seen.append(batch)
        return model.loss(batch.images, rng)

    numbered = DataLoader(WithNumbers(IMAGES), 12, collate_fn=lambda batch: batch)
    noise, order = (randomness.stream("cpu", 0, part) for part in ("a", "a order"))
    report = measure(loss, model, numbered, noise, order, Design(4, 2, 2)).report()
    assert report["both"] == Known().measured(Design(4, 2, 2)).report()["both"]
    assert all(type(batch) is Numbered for batch in seen)
    assert all(torch.equal(batch.images, Images(IMAGES).__getitems__(batch.numbers.tolist())) for batch in seen)


def test_batches_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="a batch of 25 cannot be drawn from 24 images"):
        Known().measured(Design(), batch_size=25)


def test_held_out_images_of_a_model_in_evaluation_mode(small_model):
    """A real objective: every network has both kinds of noise, and they add up."""
    data = Digits(batch_size=50)
    model = small_model().eval()
    noise, order = model.stream("noise"), model.stream("order")
    report = measure(model.loss, model, data.test_dataloader(), noise, order, Design(8, 2, 4)).report()
    for network in ("energy", "generator", "both"):
        estimates = report[network]
        assert estimates["total"].value == pytest.approx(estimates["data"].value + estimates["sampler"].value)
        assert estimates["sampler"].value > 4 * estimates["sampler"].standard_error
