"""The processes of one training, each with its share of every batch; one process where none were started."""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it this process counts as the only one: others, which may be anywhere, are told and asked nothing."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def count() -> int:
    """How many there are."""
    if _alone:
        return 1
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


def pooled(tensor: Tensor, dim: int) -> Tensor:
    """As :func:`gathered`, to be differentiated: the mean over processes of the gradients is that of the whole.

    A process knows only how its own tensor came about, and all processes compute the same function of the whole. Its
    gradient with respect to a parameter is the sum over processes of what their tensors contribute, and training
    averages: so each contribution counts as often as there are processes. The backward pass communicates nothing.

    Args:
        tensor: This process's part; it has the same shape in all of them.
        dim: The dimension, of size n here, along which they are joined to :func:`count` · n, in the order of ranks.
    """
    own = dist.get_rank() if count() > 1 else 0
    parts = list(gathered(tensor.detach(), dim).chunk(count(), dim))
    parts[own] = tensor.detach() + count() * (tensor - tensor.detach())  # the first is its value, bit by bit
    return torch.cat(parts, dim)
