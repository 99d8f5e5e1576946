"""Operation counts and peak memory, and the choices of threads, precision and compilation."""

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

# Below this many floating-point operations for one pass of a batch through a network, overhead dominates on a CPU:
# waking a second thread takes longer than its share of the work (a hundred times longer where processes share the
# cores), and steps compiled in blocks save calls. Above it convolutions dominate, which the compiler leaves unchanged.
SMALL_BATCH_FLOPS = 10**8


class OfLatents(Protocol):
    """A network that takes latents (N, d)."""

    latent_dim: int

    def __call__(self, z: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...


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


def forward_flops(network: OfLatents) -> int:
    """Floating-point operations of the forward pass of one latent, counted by running the network.

    It runs on tensors without values (torch's ``meta`` device), which compute nothing; if it cannot, on its own.
    """
    meta = torch.empty(1, network.latent_dim, device="meta", dtype=next(network.parameters()).dtype)
    if isinstance(network, torch.nn.Module):
        tensors = (*network.named_parameters(), *network.named_buffers())
        without_values = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
        with contextlib.suppress(RuntimeError, NotImplementedError), Flops() as flops, torch.no_grad():
            functional_call(network, without_values, meta)
            return flops.total
    with Flops() as flops, torch.no_grad():
        network(next(network.parameters()).new_zeros(1, network.latent_dim))
    return flops.total


def choose_threads(flops: int) -> int:
    """One thread if a batch of so many operations is too small to be split, otherwise as many as torch uses now."""
    return 1 if flops < SMALL_BATCH_FLOPS else torch.get_num_threads()


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
