"""What a machine does in a second, and the memory that a process has taken."""

import mmap
import sys
import time
from pathlib import Path

import pytest
import torch

from thermoebm.runtime.cost import matrix_rate, peak_memory


def test_the_matrix_rate_is_that_of_a_product_in_the_precision_of_convolutions():
    """Another product takes as long, within a factor of three; no trace is left in the random numbers of torch."""
    state = torch.random.get_rng_state()
    rate = matrix_rate(torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        assert matrix_rate(torch.device("cpu")) > 0
    assert torch.equal(state, torch.random.get_rng_state())
    a = torch.randn(700, 700)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    assert 1 / 3 < rate * min(seconds) / (2 * 700**3) < 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_peak_memory_is_the_most_bytes_held_at_once():
    """What takes the process 64 MiB above its peak raises it by as much, and it stays there."""
    cpu = torch.device("cpu")
    peak = peak_memory(cpu)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    assert 0 < resident < peak + 2**20
    # Pages of its own: a tensor might lie in memory that the process has kept.
    with mmap.mmap(-1, int(peak) - resident + 64 * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
    assert peak_memory(cpu) - peak == pytest.approx(64 * 2**20, abs=8 * 2**20)
