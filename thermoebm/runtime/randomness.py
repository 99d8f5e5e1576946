"""Named, counted streams of random numbers.

A stream is a function of (seed, name, counters), not a generator whose state earlier draws have advanced. The noise of
training step 1,000 is the same whether or not the run was resumed, and whatever callbacks drew in between. Checkpoints
therefore need no generator state.
"""

import zlib

import numpy as np
import torch


def stream(device: torch.device | str, seed: int, name: str, *counters: int) -> torch.Generator:
    """A generator for one named use.

    Args:
        device: Where the draws are made. Draws on CPU and on CUDA differ.
        seed: The run's seed, at least 0.
        name: Purpose of the draws. Streams of different names are independent.
        counters: For instance the process's rank and the step. Streams of different counters are independent.

    Returns:
        A freshly seeded generator.
    """
    key = [seed, zlib.crc32(name.encode()), len(counters), *counters]  # SeedSequence alone ignores zeros at the end
    words = np.random.SeedSequence(key).generate_state(2, np.uint32)
    # Below 2^63, as manual_seed requires. The CPU generator uses the low 32 bits, CUDA's all of them.
    return torch.Generator(device).manual_seed((int(words[0]) << 31) ^ int(words[1]))
