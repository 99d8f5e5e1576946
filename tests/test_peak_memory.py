"""Peak memory of a piece of work, as the benchmarks and the tests of samplers measure it."""

import gc

import pytest
import torch

from benchmarks.memory import peak

CPU = torch.device("cpu")


def test_peak_memory_counts_what_lives_at_once():
    """Three tensors of 4 MiB at the most, though four are made; small change for scalars."""

    def work():
        a = torch.zeros(2**20)
        b = a + 1
        c = b * 2
        del a
        return c + 1

    assert peak(work, CPU) == pytest.approx(3 * 2**22, rel=1e-4)


def test_peak_memory_leaves_out_what_was_there_before():
    """The profiler knows the sizes of tensors from an earlier measurement, and reports their release in a later one."""
    kept = []
    peak(lambda: kept.append(torch.zeros(2**20)), CPU)

    def work():
        a = torch.zeros(2**10)
        kept.clear()
        return a + 1

    assert peak(work, CPU) == pytest.approx(2 * 2**12, rel=1e-2)


def test_peak_memory_does_not_depend_on_when_cycles_are_collected():
    def cycle():
        tensors = [torch.zeros(2**20)]
        tensors.append(tensors)

    def work():
        for _ in range(3):
            cycle()
            [[] for _ in range(10)]

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        assert peak(work, CPU) == pytest.approx(3 * 2**22, rel=1e-3)
        assert gc.isenabled()
    finally:
        gc.set_threshold(*threshold)
