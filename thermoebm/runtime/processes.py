"""The processes of one training, each with its share of every batch; one process where none were started."""

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes, which must call this together; its memory may be used for it."""
    if count() > 1:
        dist.all_reduce(tensor)
        tensor /= count()
    return tensor


def gathered(tensor: Tensor, dim: int) -> Tensor:
    """The tensors of all processes, which must call this together, joined along a dimension; they have one shape."""
    if count() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(count())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts, dim)
