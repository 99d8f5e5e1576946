"""Keys of batches: each names an image, mirrored or not, whatever the order and the process."""

from types import SimpleNamespace

import pytest
import torch

from tests.data.test_batches import Slopes, mirrored
from tests.data.test_data import epoch_of, trainer_of
from thermoebm.data import Digits, ImageDataModule, Split
from thermoebm.modules.persistent import Batch


def keyed(data: ImageDataModule) -> ImageDataModule:
    """The data set as a model that needs keys has it."""
    data.trainer = trainer_of("cpu")
    data.trainer.lightning_module = SimpleNamespace(keyed=True)
    return data


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_keys_say_which_image_it_is_and_whether_it_is_mirrored(augment):
    """And images are bit for bit those of batches without keys."""
    fields = {"augment": augment, "batch_size": 100, "seed": 2}
    plain, batches = epoch_of(Slopes(**fields), 3), epoch_of(keyed(Slopes(**fields)), 3)
    for tensor, batch in zip(plain, batches, strict=True):
        assert isinstance(batch, Batch)
        assert torch.equal(batch.images, tensor)
        assert batch.keys.dtype == torch.int64
        names = batch.keys.tolist()
        found = mirrored([tensor])  # in the batch's order
        assert names == [2 * image + turned if augment == "flip" else image for image, turned in found.items()]
    assert keyed(Slopes(**fields)).train_dataloader().dataset.num_keys == {"none": 2000, "flip": 4000}[augment]


def test_two_processes_have_the_keys_of_one():
    whole = {k for batch in epoch_of(keyed(Slopes(augment="flip", batch_size=100)), 1) for k in batch.keys.tolist()}
    shares = []
    for rank in range(2):
        data = keyed(Slopes(augment="flip", batch_size=100))
        data.trainer.global_rank, data.trainer.world_size = rank, 2
        shares.append({k for batch in epoch_of(data, 1) for k in batch.keys.tolist()})
    assert shares[0] | shares[1] == whole
    assert not shares[0] & shares[1]


def test_one_item_is_one_image_and_its_key():
    dataset = keyed(Slopes(augment="flip")).train_dataloader().dataset
    image, key = dataset[7]
    assert torch.equal(image, dataset.images[7])
    assert key == 14 + mirrored([image.unsqueeze(0)])[7]


def test_training_batches_have_keys_for_a_model_that_needs_them_only():
    for needs in (True, False):
        data = keyed(Digits(num_train=40, num_val=20, batch_size=20))
        model = data.trainer.lightning_module
        model.keyed = needs
        batch = next(iter(data.train_dataloader()))
        assert isinstance(batch, Batch) == needs
        assert isinstance(next(iter(data.val_dataloader())), torch.Tensor)
        assert isinstance(data.on_after_batch_transfer(batch, 0), torch.Tensor)
        assert hasattr(model, "keys") == needs


class Reordered(Slopes):
    """The same images in another order."""

    def read(self):
        train, held_out = super().read()
        return Split(train.images.flip(0), None), held_out


def test_other_images_or_keys_have_another_identity():
    """A subset, an order, a mirroring; not what changes only when an image is shown."""

    def identity(data):
        return keyed(data).train_dataloader().dataset.identity()

    same = [identity(Slopes(**f)) for f in ({}, {"seed": 3}, {"shuffle": "once"}, {"batch_size": 20}, {"num_val": 5})]
    assert len(set(same)) == 1
    digits = [Digits(num_train=100), Digits(num_train=100, image_size=16), Digits(num_train=99)]
    others = [*map(identity, digits), identity(Slopes(augment="flip")), identity(Reordered())]
    assert len({same[0], *others}) == 6
