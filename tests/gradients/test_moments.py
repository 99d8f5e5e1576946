"""Streamed means and squares against those of stored gradients; and two processes that put theirs together."""

import weakref

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.gradients.test_statistics import P, draws, flat, gradient, streamed
from thermoebm.gradients.moments import Moments
from thermoebm.gradients.statistics import Decomposition, Design


def moments(vectors: np.ndarray) -> Moments:
    result = Moments(torch.float64)
    for vector in vectors:
        result.update(gradient(vector))
    return result


def assert_same_moments(one: Moments, other: Moments) -> None:
    assert (one.count, one.degrees) == (other.count, other.degrees)
    for a, b in zip([*one.mean, *one.squares], [*other.mean, *other.squares], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", range(8))
def test_merged_moments_are_those_of_the_whole(size):
    """Cut anywhere, also before the first draw and after the last."""
    g = np.random.default_rng(4).normal(3, 2, (7, P))
    part = moments(g[:size])
    part.merge(moments(g[size:]))
    assert_same_moments(part, whole := moments(g))
    np.testing.assert_allclose(torch.cat([s.flatten() for s in whole.squares]) / whole.degrees, g.var(0, ddof=1))


def test_closed_groups_keep_their_own_means():
    """Two groups of three, then merged with half a group: the squares are about the groups' own means."""
    g = np.random.default_rng(5).normal(3, 2, (9, P))
    state = moments(g[:3])
    state.next_group()
    for vector in g[3:6]:
        state.update(gradient(vector))
    state.next_group()
    state.merge(moments(g[6:]))
    expected = sum(3 * g[i : i + 3].var(0) for i in (0, 3, 6))
    np.testing.assert_allclose(torch.cat([s.flatten() for s in state.squares]), expected)
    assert (state.count, state.degrees) == (3, 6)


def test_squares_need_at_least_float32():
    with pytest.raises(ValueError, match=r"dtype is torch\.bfloat16"):
        Moments(torch.bfloat16)


def _process(rank: int, folder: str) -> None:
    """One of two processes: unequal shares of an open group, closed groups before it, and blocks of a decomposition."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    g = np.random.default_rng(7).normal(3, 2, (12, P))
    mine = moments(g[:4] if rank else g[4:7])
    mine.next_group()
    for vector in g[7:9] if rank else g[9:]:
        mine.update(gradient(vector))
    mine.all_reduce()
    design = Design(12, 3, 3)
    blocks = draws(design, seed=8)
    state = streamed(blocks[:8] if rank == 0 else blocks[8:], design)
    state.all_reduce()
    torch.save([mine.count, mine.degrees, mine.mean, mine.squares, flat(state), state.report()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    """Over gloo: both processes end with what one process gets from all draws."""
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    g = np.random.default_rng(7).normal(3, 2, (12, P))
    expected = moments(g[:4])
    expected.next_group()
    expected.merge(moments(g[4:7]))
    expected.next_group()
    expected.merge(moments(g[7:]))
    design = Design(12, 3, 3)
    whole = streamed(draws(design, seed=8), design)
    for rank in (0, 1):
        count, degrees, mean, squares, variance, report = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        seen = Moments(torch.float64)
        seen.count, seen.degrees, seen.mean, seen.squares = count, degrees, mean, squares
        assert_same_moments(seen, expected)
        np.testing.assert_allclose(variance, flat(whole), rtol=1e-12)
        for part, estimates in whole.report().items():
            np.testing.assert_allclose(list(report[part].values()), list(estimates.values()), rtol=1e-10)


class LargeTensors(TorchDispatchMode):
    """Counts the storages of at least so many bytes that are alive after each operation, and remembers the most."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.most = size, 0
        self.alive: list[weakref.ref] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() >= self.size:
                self.alive.append(weakref.ref(tensor))
        self.alive = [ref for ref in self.alive if ref() is not None]
        self.most = max(self.most, len({ref().untyped_storage().data_ptr() for ref in self.alive}))
        return out


@pytest.mark.parametrize("design", [Design(4, 2, 2), Design(24, 5, 3), Design(24, 2, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_is_four_gradients_beside_the_gradient(design, dtype):
    """One tensor as large as all parameters: whatever M and R, five such storages are alive at most."""
    rng = torch.Generator().manual_seed(0)
    with LargeTensors(4096 * dtype.itemsize) as memory:
        state = Decomposition(["generator.weight"], design, dtype)
        for _ in range(design.num_batches * design.repetitions):
            state.update([torch.randn(4096, generator=rng, dtype=dtype)])
        state.report()
    assert memory.most == 5
