"""The time of a computation, predicted from its operations and from what the machine was measured to do.

An operation takes the time of its arithmetic, at the rate of a large matrix product or convolution, that of its bytes,
at the bandwidth of a large copy, and a launch:

    seconds = Σ FLOPs / rate + bytes / bandwidth + launch

Compiled, all operations between two matrix products or convolutions are one, with the bytes of the largest of them.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from thermoebm.runtime.cost import matrix_rate, synchronise


class Operation(NamedTuple):
    """Nominal floating-point operations, bytes of all tensors that are read or written, and whether it convolves."""

    flops: float
    bytes: float
    convolves: bool = False


class Trace(TorchDispatchMode):
    """Lists the operations of the code in its context; on tensors of torch's ``meta`` device none is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not _is_free(func):
            formula = flop_registry.get(func.overloadpacket)
            flops = formula(*args, **kwargs, out_val=out) if formula else 0
            tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)}
            moved = sum(tensor.nbytes for tensor in tensors.values())
            self.operations.append(Operation(flops, moved, "convolution" in func.overloadpacket.__name__))
        return out


def _is_free(func: Any) -> bool:
    """Whether an operation moves no data: a view, or memory without values."""
    returned = func._schema.returns
    is_view = bool(returned) and returned[0].alias_info is not None and not returned[0].alias_info.is_write
    name = func.overloadpacket.__name__
    return is_view or name == "_unsafe_view" or name.startswith(("empty", "new_empty"))


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    Args:
        matrix: FLOPs of large matrix products, in the precision of the computation.
        convolution: FLOPs of a transposed convolution like the generator's, and of its gradient.
        bandwidth: Bytes read and written by a large copy.
        launch: Seconds that an operation takes whatever it computes; on CUDA within a graph.
    """

    matrix: float
    convolution: float
    bandwidth: float
    launch: float

    def seconds(self, operations: Iterable[Operation], *, fused: bool, half: bool = False) -> float:
        """Predicted time of operations, one after another.

        Args:
            operations: In the order of the computation.
            fused: Whether they are compiled.
            half: Whether float32 tensors of the operations stand for tensors of half the bytes, as under autocast.
        """
        total, between = 0.0, 0.0
        for flops, moved, convolves in operations:
            moved = moved / 2 if half else moved
            if fused and not flops:
                between = max(between, moved)
                continue
            if between:
                total += between / self.bandwidth + self.launch
                between = 0.0
            rate = self.convolution if convolves else self.matrix
            total += flops / rate + moved / self.bandwidth + self.launch
        return total + (between / self.bandwidth + self.launch if between else 0.0)


def all_reduce(size: float, processes: int, link: float) -> float:
    """Seconds of an all-reduce of so many bytes around a ring of processes, over a link of so many bytes a second."""
    return 2 * (processes - 1) / processes * size / link


def measured(device: torch.device) -> Rates:
    """The rates of this machine, within a second, with the present number of threads and under the present autocast."""
    numbers = 2**28 if device.type == "cuda" else 2**24
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    copying = _seconds(lambda: target.copy_(source), device)
    return Rates(matrix_rate(device), _convolution_rate(device), 2 * source.nbytes / copying, _launch(device))


def _convolution_rate(device: torch.device) -> float:
    """The rate of a hidden layer of the report's generator, forward and back to its input; narrower on a CPU."""
    wide, count = (512, 750) if device.type == "cuda" else (256, 375)
    h = torch.ones(count, wide, 4, 4, device=device).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.full((wide, wide // 2, 4, 4), 0.01, device=device)
    if torch.is_autocast_enabled(device.type):
        weight = weight.to(torch.get_autocast_dtype(device.type))

    def there_and_back() -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(conv_transpose2d(h, weight, None, 2, 1).sum(), h)[0]

    flops = 2 * (2 * count * wide * (wide // 2) * 16 * 4 * 4)
    return flops / _seconds(there_and_back, device, 5)


def _launch(device: torch.device, count: int = 50) -> float:
    """Seconds of one tiny operation and its part of the backward pass."""

    def tiny() -> Tensor:
        y = z.detach().requires_grad_()
        start = y
        for _ in range(count):
            y = y * 1.01
        return torch.autograd.grad(y.sum(), start)[0]

    z = torch.ones(64, device=device)
    with torch.enable_grad():
        if device.type != "cuda":
            return _seconds(tiny, device) / (2 * count)
        _seconds(tiny, device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            tiny()
    return _seconds(graph.replay, device) / (2 * count)


def _seconds(work: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
