"""Reads checkpoints of train.py, compares them with the config, and builds their models and data sets."""

from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from thermoebm.data import ImageDataModule
from thermoebm.modules import LatentEBM
from thermoebm.runs.finding import Which, find_checkpoint
from thermoebm.runtime import class_paths
from thermoebm.runtime.terminal import reason


def load_model(path: str | Path, which: Which = "last") -> LatentEBM:
    """The model of a checkpoint that train.py wrote, on CPU and in evaluation mode, from the checkpoint alone.

    Args:
        path: The checkpoint, or the folder of a run.
        which: Which checkpoint of a folder: that of the ``last`` epoch, or of the ``best`` by the run's measure.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or holds no config, or a folder has no such checkpoint, or several.
    """
    path = find_checkpoint(path, which)
    model: LatentEBM = _build(path, "model", LatentEBM)
    model.load_state_dict(read_checkpoint(str(path), model)["state_dict"])
    model.take_averaged_weights()
    return model.eval()


def load_data(path: str | Path, **fields: Any) -> ImageDataModule:
    """The data set that the model of a checkpoint was trained on, from the checkpoint's config.

    Args:
        path: The checkpoint, or the folder of a run, whose checkpoints all have the same.
        fields: Override fields of the config, for instance ``root`` if the files have moved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or holds no config, or a folder has no such checkpoint, or several.
    """
    data: ImageDataModule = _build(find_checkpoint(path), "data", ImageDataModule, fields)
    return data


def _build(path: str | Path, name: str, kind: type, fields: dict[str, Any] | None = None) -> Any:
    """The object that a checkpoint's config describes under this name, with some fields replaced."""
    config = load_checkpoint(path).get("config", {})
    if name not in config:
        raise ValueError(f"{path} holds no config: it was not written by train.py.")
    class_paths.look_here()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, name)
    try:
        class_paths.check(config[name])
        described = config[name] | {"init_args": config[name].get("init_args", {}) | (fields or {})}
        return parser.instantiate(parser.parse_object({name: described}))[name]
    except Exception as error:  # for instance a removed class, a renamed field or an invalid value
        raise ValueError(f"{path}: its {name} cannot be built: {reason(error)}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint of train.py; only tensors and plain values are unpickled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        complete = {"global_step", "epoch", "pytorch-lightning_version"} <= checkpoint.keys()
        tensors = all(isinstance(value, Tensor) for value in checkpoint["state_dict"].values())
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__}).") from error
    if not (complete and tensors):
        raise ValueError(f"{path} is not a checkpoint that train.py wrote.")
    return checkpoint


def read_checkpoint(path: str, model: LatentEBM) -> dict[str, Any]:
    """Reads a checkpoint and checks that it fits this model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or its tensors have other names or shapes than the model's.
    """
    checkpoint = load_checkpoint(path)
    saved = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f"{path} is of another model: {name} is {saved.get(name, 'absent')} there and "
                f"{wanted.get(name, 'absent')} in the configured model; use the config of its own run."
            )
    return checkpoint


def check_density(checkpoint: dict[str, Any], config: dict[str, Any]) -> None:
    """Raises a ValueError if the checkpoint was trained for a density with other settings than the configured one."""
    trained = checkpoint.get("config", {}).get("model", {}).get("init_args", {})
    configured = config["model"]["init_args"]
    for name in ("energy", "generator", "prior_sigma", "likelihood_sigma"):
        if name in trained and trained[name] != configured[name]:
            raise ValueError(
                f"The checkpoint is of another model: {name} is {trained[name]} there and {configured[name]} in the "
                "configured model; use the config of its own run."
            )


def continues(checkpoint: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether resuming from a checkpoint with this config continues its run: same name, variant, model and data.

    A field that the version which wrote the checkpoint did not have counts as left at its default. Whether downloads
    are allowed makes no other run.
    """
    earlier, config = _without_download(checkpoint.get("config", {})), _without_download(config)
    if any(earlier.get(key) != config[key] for key in ("name", "variant")):
        return False
    kinds = {"model": LatentEBM, "data": ImageDataModule}
    return all(
        earlier.get(key) == config[key] or _whole(earlier, key, kind) == _whole(config, key, kind)
        for key, kind in kinds.items()
    )


def _without_download(config: dict[str, Any]) -> dict[str, Any]:
    """The same config without ``data.init_args.download``."""
    data = config.get("data")
    if not (isinstance(data, dict) and isinstance(data.get("init_args"), dict)):
        return config
    fields = {name: value for name, value in data["init_args"].items() if name != "download"}
    return config | {"data": data | {"init_args": fields}}


def _whole(config: dict[str, Any], name: str, kind: type) -> Any:
    """A part of a config with all fields that it leaves at their defaults; if it cannot be read today, as it is."""
    if name not in config:
        return None
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, name)
    try:
        return parser.dump(parser.parse_object({name: config[name]}))
    except Exception:  # for instance a removed class: it is another model than any of today
        return config[name]


def chosen_by(checkpoint: dict[str, Any]) -> str | None:
    """The measure by which :class:`thermoebm.callbacks.BestCheckpoint` chose this checkpoint; None: it was not chosen.

    A last.ckpt is not, though its epoch may be the best.
    """
    state = checkpoint.get("callbacks", {}).get("BestCheckpoint", {})
    return str(state["monitor"]) if state.get("chosen") else None
