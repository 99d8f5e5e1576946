"""Reads checkpoints of train.py, compares them with the config, and builds their models and data sets."""

import contextlib
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from thermoebm.data import ImageDataModule
from thermoebm.modules import ImageModel
from thermoebm.runs import contents, directories
from thermoebm.runs.finding import Which, find_checkpoint
from thermoebm.runtime import archives, class_paths
from thermoebm.runtime.terminal import reason, say

#: Whether a checkpoint is of an epoch whose steps are done, and whose validation and measurements are made again.
MEASURES_AGAIN = "measures_again"


def load_model(path: str | Path, which: Which = "last") -> ImageModel:
    """The model of a checkpoint that train.py wrote, on CPU and in evaluation mode, from the checkpoint alone.

    Args:
        path: The checkpoint, or the folder of a run.
        which: Which checkpoint of a folder: that of the ``last`` epoch, or of the ``best`` by the run's measure.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or holds no config, or a folder has no such checkpoint, or several.
    """
    path = find_checkpoint(path, which)
    model: ImageModel = _build(path, "model", ImageModel)
    model.load_state_dict(read_checkpoint(path, model)["state_dict"])
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
        ValueError: If it is damaged or no checkpoint; the message names the newest valid one beside it.
    """
    return _read(Path(path))


def read_checkpoint(path: str | Path, model: ImageModel, resumes: bool = False) -> dict[str, Any]:
    """Reads a checkpoint and checks that it fits this model.

    Args:
        path: The file.
        model: The model that its weights are for.
        resumes: Whether training is to go on from it, for which more must be there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`load_checkpoint`, or if it is of another model.
    """
    return _read(Path(path), model, resumes)


def is_valid(path: Path, model: ImageModel | None = None, resumes: bool = False) -> bool:
    """Whether a checkpoint is there and can be read, for what it is to be used for."""
    try:
        _verified(path, model, resumes)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _read(path: Path, model: ImageModel | None = None, resumes: bool = False) -> dict[str, Any]:
    """The verified contents; where they are not valid, it is said which checkpoint beside it is."""
    try:
        return _verified(path, model, resumes)
    except (FileNotFoundError, ValueError) as error:
        found = {}
        for beside in path.parent.glob("*.ckpt"):
            with contextlib.suppress(FileNotFoundError, ValueError):
                content = _verified(beside, model, resumes)
                found[content["global_step"]] = f"{beside}, of epoch {content['epoch'] + 1}"
        offer = f"; the newest valid checkpoint beside it is {found[max(found)]}" if found else ""
        raise type(error)(f"{error}{offer}.") from error


def _verified(path: Path, model: ImageModel | None, resumes: bool) -> dict[str, Any]:
    """The contents of a file that are whole, complete, and of this model if one is given."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}")
    try:
        content: dict[str, Any] = archives.read(path)
        contents.check(content)
        if model is not None:
            contents.check_weights(content, model)
            if resumes:
                contents.check_training(content, model)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    return content


def check_density(checkpoint: dict[str, Any], config: dict[str, Any]) -> None:
    """Raises a ValueError if the checkpoint was trained for a density with other settings than the configured one."""
    trained = checkpoint.get("config", {}).get("model", {}).get("init_args", {})
    configured = config["model"].get("init_args", {})  # absent of a model without arguments
    for name in ("energy", "generator", "encoder", "prior_sigma", "likelihood_sigma"):
        if name in trained and trained[name] != configured.get(name):
            raise ValueError(
                f"The checkpoint is of another model: {name} is {trained[name]} there and {configured.get(name)} in "
                "the configured model; use the config of its own run."
            )


def continues(checkpoint: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether resuming from a checkpoint with this config continues its run: same name, variant, model and data.

    A field that the version which wrote the checkpoint did not have counts as left at its default. Whether downloads
    are allowed makes no other run.
    """
    earlier, config = _without_download(checkpoint.get("config", {})), _without_download(config)
    if any(earlier.get(key) != config[key] for key in ("name", "variant")):
        return False
    kinds = {"model": ImageModel, "data": ImageDataModule}
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


def epochs_trained(checkpoint: dict[str, Any]) -> int:
    """The number of epochs that are complete, validation and measurements included."""
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {})
    return int(progress.get("current", {}).get("processed", checkpoint["epoch"] + 1))


def newest_of(parent: Path, config: dict[str, Any]) -> Path | None:
    """The last.ckpt of the newest run in a folder that this config continues; None: there is none."""
    for run in sorted(directories.numbered(parent), key=lambda run: int(run.name), reverse=True):
        path = run / "checkpoints" / "last.ckpt"
        try:
            if path.is_file() and continues(load_checkpoint(path), config):
                return path
        except ValueError as error:  # a damaged one; a run before it may be whole
            say(f"Not resumed: {error}")
    return None


def chosen_by(checkpoint: dict[str, Any]) -> str | None:
    """The measure by which :class:`thermoebm.callbacks.BestCheckpoint` chose this checkpoint; None: it was not chosen.

    A last.ckpt is not, though its epoch may be the best.
    """
    state = checkpoint.get("callbacks", {}).get("BestCheckpoint", {})
    return str(state["monitor"]) if state.get("chosen") else None
