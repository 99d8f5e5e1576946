"""What a recording freezes: its key has all of it, so that a recording is replayed only where it is still right."""

from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


def settings(arguments: Sequence[Tensor]) -> Hashable:
    """The arguments but for their values, and the settings of torch that choose what computes on them."""
    kind = arguments[0].device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    matmul, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    new = hasattr(matmul, "fp32_precision")  # from torch 2.9; where it is used, the old names raise
    products = (matmul.fp32_precision, cudnn.conv.fp32_precision) if new else (matmul.allow_tf32, cudnn.allow_tf32)
    deterministic = torch.are_deterministic_algorithms_enabled()
    return autocast, products, deterministic, tuple((a.shape, a.dtype, a.device) for a in arguments)


def fingerprint(value: Any) -> Hashable:
    """All that a graph freezes of a value: the place of a tensor, the tensors of a module, the fields of an object."""
    if isinstance(value, Tensor):
        return value.data_ptr(), value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, nn.Module):
        modules = tuple((module, module.training) for module in value.modules())
        return modules, fingerprint((*value.parameters(), *value.buffers()))
    if isinstance(value, tuple | list):
        return tuple(map(fingerprint, value))
    if isinstance(value, dict):
        return fingerprint(tuple(value.items()))
    if hasattr(value, "__dict__") and not callable(value):
        return type(value), tuple((name, fingerprint(field)) for name, field in vars(value).items())
    return value
