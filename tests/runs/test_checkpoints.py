"""Checkpoints are read, or refused in a sentence."""

import copy
import re
from pathlib import Path

import pytest
import torch

from thermoebm.runs import checkpoints

PROGRESS = {"global_step": 1, "epoch": 0, "pytorch-lightning_version": "2.6"}


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"state_dict": {"a": 1}, **PROGRESS}])
def test_something_like_a_checkpoint_is_refused(tmp_path, small_model, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="is not a checkpoint that train"):
        checkpoints.read_checkpoint(tmp_path / "other.ckpt", small_model())


def test_a_checkpoint_of_the_same_model_is_read(tmp_path, small_model):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": small_model().state_dict(), **PROGRESS, "global_step": 7}, path)
    assert checkpoints.read_checkpoint(path, small_model())["global_step"] == 7


def test_faults_of_a_checkpoint_are_told_in_a_sentence(tmp_path, small_model):
    """Absent, not a checkpoint, cut off in mid-writing, something else that torch can read, code in place of data."""
    model, path = small_model(), tmp_path / "last.ckpt"
    torch.save({"state_dict": model.state_dict()}, path)
    whole = path.read_bytes()
    no_archive = "is not a readable checkpoint: it is cut off or no archive of torch.save."
    code = "is not a readable checkpoint: it holds more than tensors and plain values."
    refused = {
        "garbage": (b"garbage", no_archive),
        "empty": (b"", no_archive),
        "truncated": (whole[: len(whole) // 2], no_archive),
        "legacy": (torch_bytes(tmp_path, {"state_dict": {}}, _use_new_zipfile_serialization=False), no_archive),
        "other": (torch_bytes(tmp_path, [1, 2, 3]), "is not a checkpoint that train.py wrote."),
        "code": (torch_bytes(tmp_path, {"state_dict": {}, "more": Path}), code),
    }
    for name, (content, said) in refused.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path / name} {said}')}$"):
            checkpoints.read_checkpoint(tmp_path / name, model)
    for absent in (tmp_path / "absent", tmp_path):  # a folder is no checkpoint either
        with pytest.raises(FileNotFoundError, match=f"There is no checkpoint {absent}.$"):
            checkpoints.read_checkpoint(absent, model)


def torch_bytes(folder: Path, content: object, **options: bool) -> bytes:
    torch.save(content, folder / "temporary", **options)
    return (folder / "temporary").read_bytes()


@pytest.mark.parametrize("change", ["shape", "absent", "additional"])
def test_a_checkpoint_of_another_model_names_the_tensor_that_differs(tmp_path, small_model, change):
    """A wrong checkpoint is refused before training, with both shapes."""
    state = small_model().state_dict()
    name = "energy.layers.4.bias"
    if change == "shape":
        state[name] = torch.zeros(3)
    elif change == "absent":
        del state[name]
    else:
        state[name := "more"] = torch.zeros(3)
    said = {
        "shape": r"\(3,\) there and \(1,\) in",
        "absent": r"absent there and \(1,\) in",
        "additional": r"\(3,\) there and absent in",
    }[change]
    torch.save({"state_dict": state, **PROGRESS}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=f"is of another model: {name} is {said} the configured model; use"):
        checkpoints.read_checkpoint(tmp_path / "other.ckpt", small_model())


def test_what_training_warned_of_is_not_said_again_when_a_model_is_loaded(checkpoint, tmp_path, recwarn):
    """The KL terms of ti.yaml act on no gradient under its estimator."""
    content = torch.load(checkpoint, weights_only=True)
    objective = "thermoebm.objectives.ThermodynamicIntegration"
    arguments = {"estimator": "contrastive", "eta": 1.0}
    content["config"]["model"]["init_args"]["objective"] = {"class_path": objective, "init_args": arguments}
    torch.save(content, tmp_path / "ti.ckpt")
    assert checkpoints.load_model(tmp_path / "ti.ckpt").objective.eta == 1
    assert not [str(warning.message) for warning in recwarn if "eta" in str(warning.message)]


@pytest.mark.parametrize(("change", "goes_on"), [({}, True), ({"pixel_noise": True}, False), ({"absent": 1}, False)])
def test_a_field_that_an_earlier_version_did_not_have_is_at_its_default(checkpoint, change, goes_on):
    """A run of then goes on as what it was, and not with another value, or one that is no field any more."""
    content = torch.load(checkpoint, weights_only=True)
    now = copy.deepcopy(content["config"])
    for field in ("pixel_noise", "average_decay"):
        del content["config"]["model"]["init_args"][field]
    now["model"]["init_args"] |= change
    assert checkpoints.continues(content, now) == goes_on
    assert not checkpoints.continues(content, now | {"name": "other"})


@pytest.mark.parametrize(("change", "goes_on"), [({"download": True}, True), ({"batch_size": 74}, False)])
def test_whether_downloads_are_allowed_makes_no_other_run(checkpoint, change, goes_on):
    content = torch.load(checkpoint, weights_only=True)
    now = copy.deepcopy(content["config"])
    now["data"]["init_args"] |= change
    assert checkpoints.continues(content, now) == goes_on
