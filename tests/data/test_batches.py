"""Batches: mirroring that a resumed or a parallel run repeats."""

import math

import torch

from tests.data.test_data import epoch_of, trainer_of
from thermoebm.data import ImageDataModule, Split


class Slopes(ImageDataModule):
    """2,000 images that are not their own mirror images, each with its number in two of four pixels."""

    def read(self):
        number = torch.arange(2010)
        rows = torch.stack([number % 256, number // 256, torch.full_like(number, 100), torch.full_like(number, 200)], 1)
        images = rows.to(torch.uint8).view(-1, 1, 1, 4)
        return Split(images[:2000], None), Split(images[2000:], None)


def mirrored(batches: list[torch.Tensor]) -> dict[int, bool]:
    """Which of Slopes' images are mirrored; each must be the image or its exact mirror image."""
    found = {}
    for pixels in ((torch.cat(batches)[:, 0, 0] + 1) * 127.5).round().int().tolist():
        turned = pixels[:2] == [200, 100]
        low, high, *rest = pixels[::-1] if turned else pixels
        assert rest == [100, 200]
        found[low + 256 * high] = turned
    return found


def test_mirroring_is_a_function_of_seed_and_epoch_and_of_nothing_else():
    """Not of the batch, nor of the order of images, nor of the process: a resumed or a parallel run shows the same."""
    reference = mirrored(epoch_of(Slopes(augment="flip", batch_size=100, seed=2), 3))
    assert len(reference) == 2000
    assert mirrored(epoch_of(Slopes(augment="flip", batch_size=8, seed=2, shuffle="once"), 3)) == reference
    parts = {}
    for rank in range(2):
        data = Slopes(augment="flip", batch_size=50, seed=2)
        data.trainer = trainer_of("cpu", rank, 2)
        parts |= mirrored(epoch_of(data, 3))
    assert parts == reference


def test_about_half_is_mirrored_anew_each_epoch():
    """Of 2,000 coins 1,000 fall and 1,000 agree in two epochs or two seeds, within 4 standard errors of √500."""
    epochs = [mirrored(epoch_of(Slopes(augment="flip", batch_size=100, seed=2), epoch)) for epoch in (0, 1)]
    epochs.append(mirrored(epoch_of(Slopes(augment="flip", batch_size=100, seed=3), 0)))
    for coins in epochs:
        assert abs(sum(coins.values()) - 1000) < 4 * math.sqrt(500)
    for other in epochs[1:]:
        assert abs(sum(epochs[0][image] == other[image] for image in other) - 1000) < 4 * math.sqrt(500)


def test_nothing_is_mirrored_unasked_and_nothing_held_out():
    assert not any(mirrored(epoch_of(Slopes(batch_size=100), 0)).values())
    held_out = Slopes(augment="flip").val_dataloader()
    held_out.sampler.set_epoch(1)
    assert not any(mirrored(list(held_out)).values())


def test_coins_are_drawn_once_an_epoch(monkeypatch):
    """By one loader through epochs and back: each like a loader of its own, and drawn for the first batch only."""
    alone = [epoch_of(Slopes(augment="flip", batch_size=100), epoch) for epoch in (0, 1)]
    loader = Slopes(augment="flip", batch_size=100).train_dataloader()
    drawn = []
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *sizes, **options: drawn.append(sizes) or rand(*sizes, **options))
    for number, epoch in enumerate((0, 1, 0), 1):
        loader.sampler.set_epoch(epoch)
        assert torch.equal(torch.cat(list(loader)), torch.cat(alone[epoch]))
        assert drawn == [(2000,)] * number
