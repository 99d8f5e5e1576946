"""What is in a checkpoint is verified: each fault in one sentence, and nothing that may be is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch

import thermoebm
from tests.endurance.contents import BAD, WEIGHT
from tests.endurance.run import train
from thermoebm.modules import LatentEBM
from thermoebm.runs import checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, and its model as training has it."""
    run = train(tmp_path_factory.mktemp("runs"))
    return run, LatentEBM.load_from_checkpoint(run / "checkpoints" / "last.ckpt")


@pytest.fixture
def content(run):
    return copy.deepcopy(checkpoints.load_checkpoint(run[0] / "checkpoints" / "last.ckpt"))


def refusal(path, content, model, resumes=True):
    """The sentence with which contents are refused; None: they are taken."""
    torch.save(content, path)
    try:
        checkpoints.read_checkpoint(path, model, resumes)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("what", BAD)
def test_bad_contents_are_refused_in_a_sentence_and_the_newest_valid_file_is_named(run, content, what):
    folder, model = run
    harm, said = BAD[what]
    harm(content)
    told = refusal(path := folder / "checkpoints" / "harmed.ckpt", content, model)
    assert told is not None
    assert said in told
    assert told.startswith(f"{path} ")
    last = folder / "checkpoints" / "last.ckpt"
    assert told.endswith(f"; the newest valid checkpoint beside it is {last}, of epoch 2.")
    assert told.count("; the newest") == 1


def test_without_a_valid_file_beside_it_none_is_named(run, content, tmp_path):
    content["epoch"] = -1
    torch.save(content, tmp_path / "other.ckpt")
    told = refusal(tmp_path / "harmed.ckpt", content, run[1])
    assert told == f"{tmp_path}/harmed.ckpt is damaged: its epoch is -1 and must be a whole number of at least 0."


def test_a_file_beside_it_that_cannot_be_used_for_this_is_not_named(run, content, tmp_path):
    """It has no optimiser, and training is to go on."""
    del content["optimizer_states"]
    torch.save(content, tmp_path / "evaluable.ckpt")
    content["epoch"] = -1
    assert "newest" not in refusal(tmp_path / "harmed.ckpt", content, run[1])
    assert f"is {tmp_path}/evaluable.ckpt, of epoch 2." in refusal(tmp_path / "harmed.ckpt", content, run[1], False)


def test_what_only_training_needs_is_not_asked_for_elsewhere(run, content, tmp_path):
    for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks"):
        del content[name]
    assert refusal(tmp_path / "bare.ckpt", content, run[1], resumes=False) is None
    assert thermoebm.load(tmp_path / "bare.ckpt").averaged is None


def test_what_may_be_is_taken(run, content, tmp_path):
    """Adam's step as a number, a frozen network without moments, and the weights of a run in double precision."""
    assert refusal(tmp_path / "a.ckpt", content, run[1]) is None
    moments = content["optimizer_states"][0]["state"]
    moments[6]["step"] = 4
    for number in range(6):
        del moments[number]
    assert refusal(tmp_path / "b.ckpt", content, run[1]) is None
    weights = content["state_dict"]
    weights |= {name: value.double() for name, value in weights.items()}
    for moment in moments.values():
        moment |= {name: moment[name].double() for name in ("exp_avg", "exp_avg_sq")}
    assert "torch.float64 there" in refusal(tmp_path / "c.ckpt", content, run[1])
    content["config"]["trainer"]["precision"] = "64-true"
    assert refusal(tmp_path / "c.ckpt", content, run[1]) is None


def test_a_buffer_that_is_infinite_by_design_may_be_so(run, content, tmp_path):
    """Such as the mask of a network of one's own."""
    model = copy.deepcopy(run[1])
    model.energy.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    content["state_dict"]["energy.mask"] = model.energy.mask
    assert refusal(tmp_path / "mask.ckpt", content, model) is None


def test_a_model_with_an_optimiser_of_its_own_is_not_asked_for_adams(run, content, tmp_path):
    class Own(LatentEBM):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = copy.deepcopy(run[1])
    model.__class__ = Own
    content["optimizer_states"] = [{"state": {}, "param_groups": []}]
    assert "of another model" in refusal(tmp_path / "own.ckpt", content, run[1])
    assert refusal(tmp_path / "own.ckpt", content, model) is None


def test_lightnings_own_function_notices_what_is_not_finite_and_what_is_damaged(run, content, tmp_path):
    path = tmp_path / "last.ckpt"
    BAD["weight not finite"][0](content)
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"^{path} holds values that are not finite in {WEIGHT}: training broke"):
        LatentEBM.load_from_checkpoint(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{path} is damaged: its record data/\d+ does not match its checksum\.$"):
        LatentEBM.load_from_checkpoint(path)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_trainer_in_python_goes_on_from_no_damaged_file(run, tmp_path, damaged):
    """Lightning reads it later, and would notice nothing."""
    path, model = tmp_path / "last.ckpt", copy.deepcopy(run[1])
    data = bytearray((run[0] / "checkpoints" / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= damaged
    path.write_bytes(data)
    model._trainer = SimpleNamespace(ckpt_path=str(path))
    if not damaged:
        model.setup("fit")
        return
    with pytest.raises(ValueError, match=rf"^{path} is damaged: its record "):
        model.setup("fit")
