"""The time of a computation, predicted from its operations and from what the machine was measured to do.

An operation takes the time of its arithmetic, at the rate of matrix products or of the generator's convolutions, that
of its bytes, at the rate of a large copy or, where their order changes, of a transposition, and a launch:

    seconds = Σ FLOPs / rate + bytes / rate + launch

Compiled, all operations between two matrix products or convolutions are one, which takes the time of the slowest.
"""

import statistics
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from thermoebm.runtime.cost import matrix_rate, synchronise


class Operation(NamedTuple):
    """Nominal floating-point operations, bytes of all tensors that are read or written, and what is peculiar to it."""

    flops: float
    bytes: float
    convolves: bool = False
    reorders: bool = False  # numbers come in another order than they go


class Trace(TorchDispatchMode):
    """Lists the operations of the code in its context; on tensors of torch's ``meta`` device none is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_free(func):
            return func(*args, **kwargs)
        out = _output(func, args, kwargs)
        formula = flop_registry.get(func.overloadpacket)
        flops = formula(*args, **kwargs, out_val=out) if formula else 0
        tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)}
        moved = sum(tensor.nbytes for tensor in tensors.values())
        convolves = "convolution" in func.overloadpacket.__name__
        self.operations.append(Operation(flops, moved, convolves, not flops and _reorders(tensors.values())))
        return out


def _reorders(tensors: Iterable[Tensor]) -> bool:
    """Whether the largest of the tensors have their numbers in different orders in memory."""
    tensors = list(tensors)
    most = max((t.numel() for t in tensors), default=0)
    large = [
        [(n, step) for n, step in zip(t.shape, t.stride(), strict=True) if n > 1] for t in tensors if t.numel() == most
    ]
    return any(order != large[0] for order in large)


# Outputs without values, by operation and by what it was given: torch finds their shapes out in Python.
_outputs: dict[Any, Any] = {}


def _output(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    if func._schema.is_mutable or not tensors or not all(tensor.is_meta for tensor in tensors):
        return func(*args, **kwargs)
    key = func, _frozen(args), _frozen(tuple(kwargs.items()))
    if key not in _outputs:
        _outputs[key] = func(*args, **kwargs)
    return tree_map_only(
        Tensor, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device), _outputs[key]
    )


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return type(value), value


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
        matrix: FLOPs of matrix products, in the precision of the computation.
        convolution: FLOPs of a transposed convolution like the generator's, and of its gradient.
        bandwidth: Bytes read and written by a large copy.
        launch: Seconds that an operation takes whatever it computes; on CUDA within a graph.
        transposition: Bytes read and written by a transposed copy.
    """

    matrix: float
    convolution: float
    bandwidth: float
    launch: float
    transposition: float

    def seconds(self, operations: Iterable[Operation], *, fused: bool, half: bool = False) -> float:
        """Predicted time of operations, one after another.

        Args:
            operations: In the order of the computation.
            fused: Whether they are compiled.
            half: Whether float32 tensors of the operations stand for tensors of half the bytes, as under autocast.
        """
        total, between = 0.0, 0.0
        for flops, moved, convolves, reorders in operations:
            moving = moved / (2 if half else 1) / (self.transposition if reorders else self.bandwidth)
            if fused and not flops:
                between = max(between, moving)
                continue
            if between:
                total += between + self.launch
                between = 0.0
            total += flops / (self.convolution if convolves else self.matrix) + moving + self.launch
        return total + (between + self.launch if between else 0.0)


def all_reduce(size: float, processes: int, link: float) -> float:
    """Seconds of an all-reduce of so many bytes around a ring of processes, over a link of so many bytes a second."""
    return 2 * (processes - 1) / processes * size / link


def measured(device: torch.device) -> Rates:
    """The rates of this machine, within a second, with the present number of threads and under the present autocast."""
    side = 2**14 if device.type == "cuda" else 2**11
    source = torch.ones(side, side, device=device)
    target = torch.empty_like(source)
    copying, transposing = (_seconds(partial(target.copy_, numbers), device) for numbers in (source, source.t()))
    moved = 2 * source.nbytes
    return Rates(
        _product_rate(device), _convolution_rate(device), moved / copying, _launch(device), moved / transposing
    )


def _product_rate(device: torch.device) -> float:
    """The rate of a large product; on a CPU that of a hidden layer of the report's energy, which is lower."""
    if device.type == "cuda":
        return matrix_rate(device)
    batches, weight = torch.ones(20, 375, 200).unbind(), torch.ones(200, 200)  # more than its caches hold
    return 2 * 20 * 375 * 200 * 200 / _seconds(lambda: [h @ weight for h in batches], device)


def _convolution_rate(device: torch.device) -> float:
    """The rate of two hidden layers of the report's generator, forward and back to their input; narrower on a CPU.

    As in a chain: numbers and weights are rounded for autocast beforehand, and on CUDA the layers are within a graph.
    """
    on_gpu = device.type == "cuda"
    wide, count = (512, 750) if on_gpu else (256, 75)
    half = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if half else torch.float32
    h = torch.ones(count, wide, 4, 4, device=device, dtype=dtype if on_gpu else torch.float32)
    h = h.to(memory_format=torch.channels_last).requires_grad_()
    weights = [torch.full((wide // n, wide // n // 2, 4, 4), 0.01, device=device, dtype=dtype) for n in (1, 2)]
    if on_gpu:
        weights = [weight.to(memory_format=torch.channels_last) for weight in weights]

    def there_and_back() -> Tensor:
        with torch.enable_grad():
            middle = conv_transpose2d(h, weights[0], None, 2, 1)
            return torch.autograd.grad(conv_transpose2d(middle, weights[1], None, 2, 1).sum(), h)[0]

    flops = 2 * 2 * (2 * count * wide * (wide // 2) * 16 * 4 * 4)
    return flops / _seconds(_recorded(there_and_back, device), device, 5)


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
        return _seconds(_recorded(tiny, device), device) / (2 * count)


def _recorded(work: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """The work, on CUDA as a graph: launches from Python would be timed otherwise."""
    if device.type != "cuda":
        return work
    _seconds(work, device, 2)  # libraries allocate their workspaces first
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def _seconds(work: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
