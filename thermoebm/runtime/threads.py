"""The number of CPU threads within a block of code."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets the number of CPU threads within the block.

    Tiny tensors want one thread (a second can stall them), Gram matrices all.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
