"""Run directories and what is in them: no two runs share one, and nothing in one is overwritten.

RUNS/NAME/0/config.yaml, metrics.csv, events.out.tfevents.*, checkpoints/last.ckpt, samples/epoch-0010.png, ...
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchvision.utils import save_image


def claim(parent: Path) -> Path:
    """Creates and returns PARENT/0, or the first number that is free; safe when many processes ask at once."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:
            continue
        return parent / str(number)
    raise AssertionError("unreachable")


def run_of(ckpt_path: str | None) -> Path | None:
    """The run that a last.ckpt belongs to, which resuming continues. Any other checkpoint starts a run of its own."""
    if ckpt_path is None:
        return None
    folder = Path(ckpt_path).parent
    is_last = Path(ckpt_path).name == "last.ckpt" and folder.name == "checkpoints"
    return folder.parent if is_last and (folder.parent / "config.yaml").is_file() else None


def read_checkpoint(path: str, model: LightningModule) -> dict[str, Any]:
    """Reads a checkpoint and makes sure that it is one of this model.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or its tensors have other names or shapes than the model's.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        saved = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__}).") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise ValueError(
                f"{path} is of another model: {name} is {saved.get(name, 'absent')} there and "
                f"{wanted.get(name, 'absent')} in the configured model; use the config of its own run."
            )
    return checkpoint


def write_samples(samples: Tensor, picture: Tensor, folder: Path) -> None:
    """Writes samples (N, C, H, W) as samples.npy and a picture of them (3, H', W') as samples.png."""
    np.save(folder / "samples.npy", samples.cpu().numpy())
    save_image(picture, folder / "samples.png")
