"""Operation counts and peak memory, and the choices of threads, precision and compilation."""

import contextlib
import copy
import re
import shutil
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from thermoebm.runtime.threads import threads

# Below this many floating-point operations for one pass of a batch through a network, overhead dominates on a CPU:
# waking a second thread takes longer than its share of the work (a hundred times longer where processes share the
# cores), and steps compiled in blocks save calls. Above it convolutions dominate, which the compiler leaves unchanged.
SMALL_BATCH_FLOPS = 10**8
# A network of more parameters takes longer to compute a few images than torch takes to find their shapes.
LARGE = 10**6


_Module = TypeVar("_Module", bound=nn.Module)


class Flops(TorchDispatchMode):
    """Counts the floating-point operations of all code in its context, including loops and backward passes.

    Counts are nominal, by the formulas of :mod:`torch.utils.flop_counter`: two operations for each multiply-add of a
    matrix product or a convolution, none for elementwise operations. (``FlopCounterMode`` is not used because it also
    tracks modules, with hooks that fail under ``torch.func.grad``: https://github.com/pytorch/pytorch/issues/131753.)
    Operations inside compiled functions are not seen; ``torch.compiler.set_stance("force_eager")`` makes them visible.

    Attributes:
        total: Operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def peak_memory(device: torch.device) -> float:
    """Peak memory in bytes: on CUDA of torch's allocator, elsewhere of the whole process; NaN where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    # Linux: getrusage would also count the memory of the program that started this one.
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if found:
        return 1024 * int(found[1])
    if sys.platform == "win32":
        return float("nan")
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest  # bytes there, kibibytes elsewhere


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a large matrix product on this machine now: of the fastest of four, a tenth of a second.

    It is computed as convolutions are: in the data type of autocast if it is on, else in float32, on CUDA as TF32 if
    cuDNN may.
    """
    on_cuda = device.type == "cuda"
    autocast = torch.is_autocast_enabled(device.type)
    side, dtype = 8192 if on_cuda else 1024, torch.get_autocast_dtype(device.type) if autocast else torch.float32
    # Ones would take less power, and be faster than what is computed.
    a = torch.linspace(-1, 1, side * side, device=device).view(side, side).to(dtype)
    out, seconds = torch.empty_like(a), []
    with _tf32_as_in_convolutions() if on_cuda else contextlib.nullcontext():
        for _ in range(5):  # the first one starts threads or allocates
            synchronise(device)
            began = time.perf_counter()
            torch.mm(a, a, out=out)
            synchronise(device)
            seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds[1:])


@contextlib.contextmanager
def _tf32_as_in_convolutions() -> Iterator[None]:
    matmul, cudnn = cast(Any, torch.backends.cuda.matmul), cast(Any, torch.backends.cudnn)
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9
        name, wanted = "fp32_precision", cudnn.conv.fp32_precision
    else:
        name, wanted = "allow_tf32", cudnn.allow_tf32
    before = getattr(matmul, name)
    setattr(matmul, name, wanted)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def synchronise(device: torch.device) -> None:
    """Waits until the device has computed what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def precision(network: nn.Module) -> torch.dtype:
    """The data type that a network computes in: that of its first floating-point parameter."""
    return next(p.dtype for p in network.parameters() if p.is_floating_point())


class Trial(NamedTuple):
    """A pass through a network: what came out, and the floating-point operations that it took."""

    output: Any
    flops: int


def trial(network: nn.Module, *shape: int, dtype: torch.dtype | None = None, graph: bool = False) -> Trial:
    """Passes latents of this shape, all zero, through a network; it and torch's random state stay as they are.

    A network that is large, or not on a CPU, is copied without its values, and computes nothing. If the copy fails, for
    instance because it asks for a value, the network is run itself, as a small one is, which is faster so.

    Args:
        network: The network; it has a floating-point parameter.
        shape: Of the latents.
        dtype: Of the latents; None: the network's precision.
        graph: Record the graph of the pass, to the latents and not to the parameters.
    """
    device, own = next(network.parameters()).device, precision(network)
    large = device.type != "cpu" or sum(p.numel() for p in network.parameters()) > LARGE

    def run(network: nn.Module, device: torch.device | str) -> Trial:
        tensors = (*network.named_parameters(), *network.named_buffers())
        copies = {name: tensor.detach().clone() for name, tensor in tensors}  # a pass may write to running statistics
        z = torch.zeros(shape, device=device, dtype=dtype or own, requires_grad=graph)
        with Flops() as flops, torch.set_grad_enabled(graph):
            return Trial(functional_call(network, copies, z), flops.total)

    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        if large and dtype in (None, own):  # without values, convolutions take any data type
            with contextlib.suppress(Exception):  # the second try tells what is wrong with the network itself
                return run(without_values(network), "meta")
        return run(network, device)


def without_values(module: _Module) -> _Module:
    """A copy whose tensors have shapes and no values (torch's ``meta`` device): nothing is computed, or held."""
    stand_ins: dict[int, Any] = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    for p in module.parameters():
        stand_ins[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
    return copy.deepcopy(module, stand_ins)


def forward_flops(network: nn.Module) -> int:
    """Floating-point operations of the forward pass of one latent, counted by running the network."""
    return trial(network, 1, cast(int, network.latent_dim)).flops


def choose_threads(flops: int) -> int:
    """One thread if a batch of so many operations is too small to be split, otherwise as many as torch uses now."""
    return 1 if flops < SMALL_BATCH_FLOPS else torch.get_num_threads()


def suitable_threads(flops: int, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Within it, on a CPU, as many threads as suit a batch of so many operations; on other devices nothing changes."""
    return threads(choose_threads(flops)) if device.type == "cpu" else contextlib.nullcontext()


def choose_precision(accelerator: str) -> str:
    """Lightning's name of the precision to run in.

    It is bfloat16 for the generator if the CUDA device supports it, else float32. The effect on results is smaller than
    that of the noise (docs/performance.md, "Precision"); energies and latents stay float32.

    Args:
        accelerator: Lightning's name of the accelerator, for instance ``auto`` or ``cuda``.
    """
    on_cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def compiles(compile: str, flops: int, device_type: str) -> bool:
    """Whether the Langevin steps of training are compiled.

    Args:
        compile: The model's field: ``auto``, ``on``, ``graph`` or ``off``.
        flops: Operations of one pass of a batch through the network.
        device_type: ``cpu`` or ``cuda``.
    """
    pays = device_type == "cuda" or flops < SMALL_BATCH_FLOPS
    return compile in ("on", "graph") or (compile == "auto" and pays and has_compiler(device_type))


@cache
def has_compiler(device_type: str) -> bool:
    """Whether something can be compiled for this kind of device: with a C++ compiler, for CUDA with Triton and C."""
    if device_type == "cuda":
        return find_spec("triton") is not None and any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
