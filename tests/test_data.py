"""Data: fixed splits, one scale of pixels, and an order that is a function of seed and epoch."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from thermoebm.data import Digits, ImageDataModule, Split
from thermoebm.data.batches import Order


class Counted(ImageDataModule):
    """Eleven training images and three held out, each filled with its own number."""

    def read(self):
        images = torch.arange(14, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        return Split(images[:11], None), Split(images[11:], None)


def epoch_of(data: ImageDataModule, epoch: int) -> list[torch.Tensor]:
    """The training batches of one epoch, as Lightning asks for them."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def numbers(batches: list[torch.Tensor]) -> list[int]:
    """Which images of Counted these are."""
    return ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_digits_are_split_into_all_of_the_data_without_overlap():
    """1,500 and 297 images, which together are scikit-learn's 1,797 as a multiset."""
    data = Digits()
    train, held_out = data.train_images, data.held_out_images
    assert (train.shape, held_out.shape) == ((1500, 1, 8, 8), (297, 1, 8, 8))
    together = torch.cat([train, held_out]).flatten(1).numpy()
    original = np.round(load_digits().images.reshape(-1, 64) * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, original))


def test_split_is_the_same_for_every_seed_and_number_says_its_size():
    """Held-out figures of different seeds are of the same images."""
    assert torch.equal(Digits(seed=0).held_out_images, Digits(seed=7).held_out_images)
    assert torch.equal(Digits(num_val=10).held_out_images, Digits().held_out_images[:10])


def test_split_is_not_the_tail_of_the_file():
    """The file is ordered by writer; held-out images are drawn from all of it, the digits evenly (χ², 9 degrees)."""
    _, (images, labels) = Digits().splits
    file = load_digits()
    where = {bytes(np.round(image * 255 / 16).astype(np.uint8)): i for i, image in enumerate(file.images)}
    positions = torch.tensor([where[bytes(image.flatten().numpy())] for image in images]).double()
    # Uniform on 0..1796: standard deviation 519, that of a mean of 297 is 28 with the finite-population factor.
    assert abs(positions.mean() - 898) < 4 * 28
    expected = 29.7
    assert ((labels.bincount(minlength=10) - expected) ** 2 / expected).sum() < 27.9  # 99.9 % quantile


def test_labels_belong_to_their_images():
    """Each image is looked up in scikit-learn's table by its pixels; no two digits there share all pixels."""
    file = load_digits()
    label_of = {bytes(i): t for i, t in zip(file.images.astype(np.uint8).reshape(-1, 64), file.target, strict=True)}
    for images, labels in Digits().splits:
        levels = (images.flatten(1).double() * 16 / 255).round().to(torch.uint8).numpy()
        assert [label_of[bytes(row)] for row in levels] == labels.tolist()


def test_batches_are_scaled_to_minus_one_and_one():
    """x = level/8 - 1 for the sixteen levels of the file, up to rounding to 8 bits (half of 2/255)."""
    data = Digits(batch_size=1500)
    (batch,) = data.train_dataloader()
    assert batch.dtype == torch.float32
    assert (batch.min(), batch.max()) == (-1, 1)
    levels = (batch + 1) * 8
    assert (levels - levels.round()).abs().max() <= 8 / 255 + 1e-5


def test_an_epoch_shows_each_image_once_and_drops_the_last_partial_batch():
    """Two batches of four, without the remaining three of eleven images; the three held-out ones in order."""
    data = Counted(batch_size=4)
    batches = epoch_of(data, epoch=0)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(numbers(batches))) == 8
    assert set(numbers(batches)) < set(range(11))
    data = Counted(batch_size=2)
    assert [len(batch) for batch in data.val_dataloader()] == [2, 1]
    assert numbers(list(data.val_dataloader())) == numbers(list(data.test_dataloader())) == [11, 12, 13]


def test_order_is_a_function_of_seed_and_epoch():
    """The same for the same pair, whatever epochs came before; another for each other pair."""
    data = Counted(batch_size=1, seed=3)
    orders = [tuple(numbers(epoch_of(data, epoch))) for epoch in range(5)]
    assert len(set(orders)) == 5
    resumed = Counted(batch_size=1, seed=3)
    assert tuple(numbers(epoch_of(resumed, epoch=4))) == orders[4]
    assert tuple(numbers(epoch_of(Counted(batch_size=1, seed=4), epoch=4))) not in orders


def test_order_is_uniform():
    """Each image comes first equally often over 1,100 epochs (χ², 10 degrees: 99.9 % quantile 29.6)."""
    shuffle = Order(11, "each_epoch", seed=0)
    first = []
    for epoch in range(1100):
        shuffle.set_epoch(epoch)
        first.append(next(iter(shuffle)))
    assert ((torch.tensor(first).bincount(minlength=11) - 100) ** 2 / 100).sum() < 29.6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Digits(batch_size=0), "batch_size is 0"),
        (lambda: Digits(num_val=0), "num_val is 0"),
        (lambda: Digits(num_val=1797).setup(), "num_val is 1797"),
        (lambda: Digits(batch_size=1501).setup(), "1500 training images, of which 1501 are needed"),
    ],
)
def test_bad_values_are_told_in_a_sentence(make, said):
    with pytest.raises(ValueError, match=f"Digits: {said}"):
        make()
