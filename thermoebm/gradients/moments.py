"""Streaming means and variances of whole gradients: sequences of tensors, one for each parameter tensor."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

Gradient = Sequence[Tensor]


class Moments:
    """Streaming mean and sum of squares of whole gradients, in two gradient-sized buffers.

    Draw n of a group updates mean ← mean + δ/n and squares ← squares + δ² (1 - 1/n), with δ = g - mean. Draws may come
    in groups: the mean is that of the open group; the squares are deviations from each group's own mean, pooled over
    all groups. Sources: Welford (1962), Technometrics 4; merging: Chan, Golub & LeVeque (1983), The American
    Statistician 37.

    Args:
        dtype: Data type of the buffers; float32 or float64.

    Raises:
        ValueError: If the data type is neither of them.

    Attributes:
        count: Draws in the open group.
        degrees: Degrees of freedom of the squares, over all groups.
        mean, squares: One tensor for each parameter tensor.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Moments: dtype is {dtype}; squares need float32 or float64.")
        self.dtype = dtype
        self.count = 0
        self.degrees = 0
        self.mean: list[Tensor] = []
        self.squares: list[Tensor] = []

    def update(self, gradient: Gradient) -> None:
        """Adds one draw; its tensors are overwritten, which saves a third buffer."""
        if not self.mean:
            self.mean = [torch.zeros_like(g, dtype=self.dtype) for g in gradient]
            self.squares = [torch.zeros_like(g, dtype=self.dtype) for g in gradient]
        self.degrees += self.count > 0
        self.count += 1
        for g, mean, squares in zip(gradient, self.mean, self.squares, strict=True):
            delta = g.to(self.dtype).sub_(mean)
            mean.add_(delta, alpha=1 / self.count)
            squares.addcmul_(delta, delta, value=1 - 1 / self.count)

    def next_group(self) -> None:
        """Closes the open group; the next draw starts a new one."""
        self.count = 0
        for mean in self.mean:
            mean.zero_()

    def merge(self, other: "Moments") -> None:
        """Adds the draws of another instance, as if the two open groups were one group."""
        if not other.mean:
            return
        if not self.mean:
            self.mean = [torch.zeros_like(m) for m in other.mean]
            self.squares = [torch.zeros_like(m) for m in other.mean]
        count = self.count + other.count
        self.degrees += other.degrees + (self.count > 0 and other.count > 0)
        for i, (mean, squares) in enumerate(zip(other.mean, other.squares, strict=True)):
            self.squares[i].add_(squares)
            if other.count:
                delta = mean - self.mean[i]
                self.squares[i].addcmul_(delta, delta, value=self.count * other.count / count)
                self.mean[i].add_(delta, alpha=other.count / count)
        self.count = count

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Merges the moments of all processes and leaves the result in each; the extra memory is one tensor."""
        mine = self.count
        counts = torch.tensor([mine, self.degrees, mine > 0], device=self.mean[0].device)
        dist.all_reduce(counts, group=group)
        self.count, self.degrees, opened = counts.tolist()
        self.degrees += max(opened - 1, 0)
        for mean, squares in zip(self.mean, self.squares, strict=True):
            own = mean.clone()
            dist.all_reduce(mean.mul_(mine / max(self.count, 1)), group=group)
            squares.addcmul_(own.sub_(mean), own, value=mine)
            dist.all_reduce(squares, group=group)
