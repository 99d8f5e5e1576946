"""A stand-in for CUDA graphs on any device: it freezes what a graph freezes, and is wrong exactly where a graph is."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class Tape(TorchDispatchMode):
    """Keeps each operator with aliases of its tensors: addresses and Python values as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.calls.append((func, *tree_map_only(Tensor, Tensor.detach, (args, kwargs, out))))
        return out

    def replay(self) -> None:
        """Runs the operators again on the same memory, and writes their results where the first ones lie."""
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # casts are on the tape
            for func, args, kwargs, kept in self.calls:
                for old, new in zip(tree_leaves(kept), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tape(work: Callable[[], Any], device: torch.device) -> tuple[Any, Callable[[], Any]]:
    """Captures like :func:`thermoebm.samplers.recorded.cuda_graph`, after a first call that may allocate."""
    work()
    recorded = Tape()
    with recorded:
        output = work()
    return output, recorded.replay
