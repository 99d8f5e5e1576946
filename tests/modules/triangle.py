"""Small models with an encoder, of 8x8 grey images."""

from typing import Any, TypeVar

import torch

from thermoebm.modules import VAE
from thermoebm.networks import ConvGenerator

_Kind = TypeVar("_Kind", bound=VAE)


def model_of(kind: type[_Kind], **arguments: Any) -> _Kind:
    """A model with d = 6 and the same generator and encoder for each kind; arguments replace its own."""
    torch.manual_seed(0)
    return kind(**{"generator": ConvGenerator(6, (1, 8, 8), features=2)} | arguments)
