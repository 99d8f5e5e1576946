"""What a batch costs, and what follows for threads and compilation."""

import shutil
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from thermoebm.networks import Generator

# Below this many floating-point operations for one pass of a batch through the generator, overhead is the cost on a
# CPU: waking a second thread takes longer than it computes (a hundred times longer where processes share the cores),
# and compilation, which removes overhead, pays. Above it the cost is convolutions, which the compiler does not touch.
# `python -m benchmarks --only prior,posterior` measures both sides.
SMALL_BATCH_FLOPS = 10**8


def is_small(generator: Generator, batch_size: int) -> bool:
    """Whether overhead is the cost of a batch on a CPU."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator(next(generator.parameters()).new_zeros(1, generator.latent_dim))
    return counter.get_total_flops() * batch_size < SMALL_BATCH_FLOPS


def choose_threads(generator: Generator, batch_size: int) -> int:
    """One thread where a batch is too small to be shared out, else as many as torch has."""
    return 1 if is_small(generator, batch_size) else torch.get_num_threads()


@cache
def compilation_pays(generator: Generator, batch_size: int, device_type: str) -> bool:
    """Whether to compile Langevin steps: always on CUDA; on a CPU for small batches if there is a C++ compiler."""
    if device_type == "cuda":
        return True
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
    return device_type == "cpu" and has_compiler and is_small(generator, batch_size)
