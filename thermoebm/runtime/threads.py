"""How many CPU threads a piece of work runs on."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads inside: tiny tensors want one (a second can stall them), Gram matrices all there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
