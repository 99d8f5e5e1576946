"""Data: fixed splits, one scale of pixels, and an order that is a function of seed and epoch."""

from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import RunningStage
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

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


def test_one_order_for_all_epochs_is_shuffled_and_follows_the_seed():
    """``once``: the same in each epoch, not the images' own, another for another seed."""
    data = Counted(batch_size=1, shuffle="once")
    first, second, tenth = (numbers(epoch_of(data, epoch)) for epoch in (0, 1, 10))
    assert first == second == tenth != sorted(first)
    assert sorted(first) == list(range(11))
    assert numbers(epoch_of(Counted(batch_size=1, shuffle="once", seed=1), 0)) != first


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [3, 11, 12])
@pytest.mark.parametrize("shuffle", ["each_epoch", "once", "never"])
def test_processes_share_an_epoch_without_overlap(length, world, shuffle):
    """Shuffled: evenly, length % world left over dropped; else all. Together they show one process's order."""
    alone = Order(length, shuffle, seed=5)
    parts = [Order(length, shuffle, 5, rank, world) for rank in range(world)]
    for epoch in range(3):
        for order in [alone, *parts]:
            order.set_epoch(epoch)
        shown = [list(order) for order in parts]
        assert [len(order) for order in parts] == [len(part) for part in shown]
        together = [index for part in shown for index in part]
        assert len(set(together)) == len(together)
        left_over = 0 if shuffle == "never" else length % world
        assert set(together) == set(list(alone)[: length - left_over])
        assert shuffle == "never" or len({len(part) for part in shown}) == 1


def test_processes_of_a_run_take_their_part_of_each_batch():
    """Two processes by the trainer they are told of: five batches of one each, no image twice, held-out images once."""
    batches, held_out = [], []
    for rank in range(2):
        data = Counted(batch_size=1)
        data.trainer = trainer_of("cpu", rank, 2)
        batches.append(numbers(epoch_of(data, 0)))
        held_out += numbers(list(data.val_dataloader()))
    assert [len(part) for part in batches] == [5, 5]
    assert not set(batches[0]) & set(batches[1])
    assert sorted(held_out) == [11, 12, 13]


@pytest.mark.parametrize(("world", "batch_size"), [(2, 5), (3, 3), (11, 1)])
def test_a_process_without_a_batch_is_told_rather_than_left_to_train_on_nothing(world, batch_size):
    """The largest batches of eleven images, floor(11 / world), and one image more."""
    for size in (batch_size, batch_size + 1):
        data = Counted(batch_size=size)
        data.trainer = trainer_of("cpu", 0, world)
        if size == batch_size:
            assert len(list(data.train_dataloader())) == 1
        else:
            with pytest.raises(ValueError, match=f"{batch_size} for each of {world} processes, and one batch takes"):
                data.train_dataloader()


def trainer_of(device: str, rank: int = 0, world: int = 1) -> SimpleNamespace:
    """As much of a Trainer as decides where images are and who shows them."""
    return SimpleNamespace(
        global_rank=rank, world_size=world, strategy=SimpleNamespace(root_device=torch.device(device))
    )


def test_lightning_leaves_the_order_alone_on_several_processes():
    """It would wrap the sampler of any other loader in one of its own, which shows some images twice."""
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    prepare = trainer._data_connector._prepare_dataloader
    loader = Counted(batch_size=2).train_dataloader()
    assert prepare(loader, shuffle=True, mode=RunningStage.TRAINING) is loader
    other = DataLoader(range(11), sampler=list(range(11)))
    assert prepare(other, shuffle=True, mode=RunningStage.TRAINING).sampler is not other.sampler


@pytest.mark.parametrize(
    ("resident", "device", "place"),
    [
        ("auto", "cpu", "cpu"),
        ("on", "cpu", "cpu"),
        ("off", "cpu", "cpu"),
        ("on", "meta", "meta"),
        ("auto", "meta", "cpu"),
        ("off", "meta", "cpu"),
    ],
)
def test_images_are_resident_where_asked(resident, device, place):
    """On the CPU nothing is copied; ``on`` moves them, once, to any device (meta for one), ``auto`` to CUDA only."""
    data = Counted(batch_size=2, resident=resident)
    data.trainer = trainer_of(device)
    for make, images in ((data.train_dataloader, data.train_images), (data.val_dataloader, data.held_out_images)):
        loader = make()
        assert loader.dataset.images.shape == images.shape
        assert loader.dataset.images is make().dataset.images
        assert loader.dataset.images.device.type == place
        assert (loader.dataset.images is images) == (place == "cpu")
        assert next(iter(loader)).device.type == place


def test_resident_without_a_trainer_is_where_the_images_are():
    assert numbers(list(Counted(batch_size=2, resident="on").val_dataloader())) == [11, 12, 13]


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
