"""Statistics of learning gradients, each under its own name.

- ``across_parameters``: the spread over the components of one gradient, the report's Var_θ and its published figures.
- ``per_parameter``: for each parameter the variance over independent draws at frozen parameters, split by the law of
  total variance into data noise (which images) and sampler noise (which MCMC noise): :class:`Decomposition`.
- the running noise scale, a cheap relative of the second, taken while the parameters drift: :class:`RunningNoiseScale`.

Gradients are those of the loss of one batch, a mean over its images, in nats per unit of the parameter.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from scipy.special import stdtrit
from torch import Tensor

from thermoebm.gradients.moments import Gradient, Moments


def across_parameters(gradient: Gradient) -> tuple[Tensor, Tensor]:
    """Variance and mean over all components of one gradient, the report's Var_θ: two scalars, on its device.

    The components are the whole population, so the variance divides by their number (as numpy and JAX do).
    """
    flat = torch.cat([g.flatten() for g in gradient])
    mean = flat.mean()
    return (flat - mean).square().mean(), mean  # torch.var_mean is thirty times slower on CPU


def networks(names: Sequence[str]) -> dict[str, list[int]]:
    """Positions of the tensors of each network, by the first part of their names.

    ``both`` has all positions: those of a latent EBM's two networks, or of all that another model has.
    """
    members: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        members.setdefault(name.split(".")[0], []).append(i)
    return members | {"both": list(range(len(names)))}


@dataclass(frozen=True)
class Design:
    """How many gradients a measurement draws: ``num_batches`` times ``repetitions``.

    Args:
        num_batches: M, independent mini-batches.
        repetitions: R, draws with independent MCMC noise on each mini-batch.
        blocks: K, independent groups of mini-batches. Standard errors are computed from the spread over blocks; the
            spread over parameters says nothing, because the components of one gradient depend on one another. The
            relative uncertainty of a standard error is 1 / sqrt(2 (K - 1)).

    Raises:
        ValueError: If a variance would have no degrees of freedom, or the blocks would differ in size.
    """

    num_batches: int = 16
    repetitions: int = 2
    blocks: int = 8

    def __post_init__(self) -> None:
        if self.repetitions < 2 or self.blocks < 2:
            raise ValueError(
                f"Gradient variance: repetitions is {self.repetitions} and blocks {self.blocks}; both must be at "
                "least 2."
            )
        if self.num_batches % self.blocks or self.num_batches < 2 * self.blocks:
            raise ValueError(
                f"Gradient variance: num_batches is {self.num_batches}; it must be a multiple of blocks "
                f"({self.blocks}), and at least twice that."
            )

    @property
    def batches_per_block(self) -> int:
        return self.num_batches // self.blocks


class Estimate(NamedTuple):
    """A number, and its standard error from the spread over K independent blocks, with K - 1 degrees of freedom.

    The error is NaN where there are fewer than two blocks.
    """

    value: float
    standard_error: float
    degrees: int

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval, by Student's t.

        Simulated with the shipped design (16 mini-batches in 8 blocks, normal gradients) it covers the truth in 95 % of
        cases if the gradient varies in a hundred independent directions, 94 in ten, 92 in three and 87 in one; with
        1.96 in place of Student's 2.36 that is 91, 90, 88 and 83.
        """
        return float(stdtrit(self.degrees, 0.975)) * self.standard_error


class Decomposition:
    """Data noise and sampler noise of gradients g_mr, repetition r of mini-batch m, streamed into four buffers.

    One-way analysis of variance within each block of B mini-batches, component by component:

        sampler noise  E[Var(g | batch)] :  W = Σ_mr (g_mr - ḡ_m)² / (B (R - 1))
        data noise     Var(E[g | batch]) :  V - W/R,  V = Σ_m (ḡ_m - ḡ)² / (B - 1)
        total          Var(g)            :  data noise + sampler noise
        mean square    E[g²]             :  Σ_mr g_mr² / (B R)

    All four are unbiased for independent mini-batches, so an estimate of a data noise near zero may be negative. An
    estimate for several components is the mean over them, then over blocks. ``normalised`` is the ratio total / mean
    square of these two averages: the mean square is that of single gradients, Var(g) + E[g]², not |E[g]|² (Faghri et
    al. 2020, arXiv 2007.04532). The true ratio is at most 1; its estimate, which is only consistent, may exceed 1.

    Args:
        names: Names of the parameter tensors.
        design: Defines R and the size of a block.
        dtype: Data type of the buffers.
    """

    def __init__(self, names: Sequence[str], design: Design, dtype: torch.dtype = torch.float32) -> None:
        self.names = tuple(names)
        self.design = design
        self.within = Moments(dtype)  # a group is a mini-batch, a draw a repetition
        self.between = Moments(dtype)  # a group is a block, a draw the mean of a mini-batch
        self.blocks: list[Tensor] = []  # (3, P) sums over components: both squares, and the squared mean
        self._counted: Tensor | float = 0.0  # the part of both squares that comes from closed blocks

    def update(self, gradient: Gradient) -> None:
        """Adds the next gradient: R in a row of one mini-batch, then R of the next. Its tensors are overwritten."""
        self.within.update(gradient)
        if self.within.count == self.design.repetitions:
            self.between.update(self.within.mean)
            self.within.next_group()
            self._close_full_block()

    def merge(self, other: "Decomposition") -> None:
        """Adds the gradients of another instance; the two open blocks become one block.

        Raises:
            ValueError: If one of the two is in the middle of a mini-batch, or their open blocks exceed one block.
        """
        both = self.between.count + other.between.count
        if self.within.count or other.within.count or both > self.design.batches_per_block:
            raise ValueError(
                "Decomposition: only whole mini-batches, and open blocks that fit into one, can be merged."
            )
        self.within.merge(other.within)
        self.between.merge(other.between)
        self.blocks += other.blocks
        self._counted = self._counted + other._counted
        self._close_full_block()

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Merges the instances of all processes, each at the end of a block; the result is in each of them.

        Raises:
            ValueError: If this process is in the middle of a block.
        """
        if self.within.count or self.between.count:
            raise ValueError("Decomposition: processes merge at the end of a block.")
        self.within.all_reduce(group)
        self.between.all_reduce(group)
        self._counted = self._sums_of_squares()
        gathered: list[list[Tensor]] = [[] for _ in range(dist.get_world_size(group))]
        dist.all_gather_object(gathered, [block.cpu() for block in self.blocks], group=group)
        self.blocks = [block for blocks in gathered for block in blocks]

    def per_parameter(self) -> Iterator[tuple[str, Tensor]]:
        """Yields name and total variance of each parameter tensor, in its shape; one at a time, to save memory."""
        for name, within, between in zip(self.names, self.within.squares, self.between.squares, strict=True):
            share = (1 - 1 / self.design.repetitions) / self.within.degrees
            yield name, between / self.between.degrees + share * within

    def estimate(self, members: Sequence[int]) -> dict[str, Estimate]:
        """``total``, ``data``, ``sampler``, ``mean_square`` and ``normalised`` of the tensors at these positions."""
        components = sum(self.between.mean[i].numel() for i in members)
        sums = torch.stack(self.blocks)[..., list(members)].cpu().sum(-1) / components
        within, between, squared_mean = sums.unbind(1)
        b, r = self.design.batches_per_block, self.design.repetitions
        sampler = within / (b * (r - 1))
        data = between / (b - 1) - sampler / r
        total = data + sampler
        mean_square = within / (b * r) + between / b + squared_mean
        parts = {"total": total, "data": data, "sampler": sampler, "mean_square": mean_square}
        estimates = {
            name: Estimate(part.mean().item(), _standard_error(part), len(part) - 1) for name, part in parts.items()
        }
        ratio = (total.mean() / mean_square.mean()).item()
        error = _standard_error(total - ratio * mean_square) / mean_square.mean().item() if ratio == ratio else ratio
        return estimates | {"normalised": Estimate(ratio, error, len(total) - 1)}

    def report(self) -> dict[str, dict[str, Estimate]]:
        """Estimates for each network, for ``both`` together, and for each tensor, by name."""
        tensors = {name: [i] for i, name in enumerate(self.names)}
        return {name: self.estimate(members) for name, members in (networks(self.names) | tensors).items()}

    def _close_full_block(self) -> None:
        if self.between.count < self.design.batches_per_block:
            return
        squares = self._sums_of_squares()
        mean = torch.stack([m.square_().sum(dtype=torch.float64) for m in self.between.mean])  # about to be cleared
        self.blocks.append(torch.cat([squares - self._counted, mean.unsqueeze(0)]))
        self._counted = squares
        self.between.next_group()

    def _sums_of_squares(self) -> Tensor:
        """Squares within and between mini-batches, summed over the components of each tensor: (2, P), float64."""
        pairs = (self.within.squares, self.between.squares)
        return torch.stack([torch.stack([s.sum(dtype=torch.float64) for s in each]) for each in pairs])


def _standard_error(blocks: Tensor) -> float:
    """Standard error of the mean over independent blocks (K,); NaN for a single block."""
    return blocks.std().item() / math.sqrt(len(blocks)) if len(blocks) > 1 else math.nan


class RunningNoiseScale:
    """The simple noise scale B = tr(Σ)/|G|², in images, from gradients of consecutive steps.

    Σ is the covariance of one image's gradient, G the mean gradient. With gradients g, g' of two steps of B images

        |G|² ≈ <g, g'>        tr(Σ) ≈ B |g - g'|²/2

    Both are averaged over steps before the ratio is taken. These are equations A.2 of McCandlish et al. (2018, arXiv
    1812.06162), where the small batch is that of one step and the big one that of both steps. The estimate is cheap and
    biased: the parameters move between the two steps, and batches of one epoch share no image. One gradient is stored.
    """

    def __init__(self) -> None:
        self._previous: list[Tensor] = []
        self._sums: Tensor | float = 0.0

    def update(self, gradient: Gradient) -> None:
        """Adds the gradient of the next step; nothing waits for the device."""
        if self._previous:
            products = [torch.dot(g.flatten(), p.flatten()) for g, p in zip(gradient, self._previous, strict=True)]
            torch._foreach_sub_(self._previous, list(gradient))
            distances = torch._foreach_norm(self._previous)
            self._sums = self._sums + torch.stack([torch.stack(products), torch.stack(distances).square() / 2]).double()
            torch._foreach_copy_(self._previous, list(gradient))
        else:
            self._previous = [g.detach().clone(memory_format=torch.contiguous_format) for g in gradient]

    def state(self) -> dict[str, Any]:
        """What a checkpoint within an epoch keeps."""
        return {"previous": self._previous, "sums": self._sums}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`state` gave."""
        self._previous, self._sums = state["previous"], state["sums"]

    def value(self, members: Sequence[int], batch_size: int) -> float:
        """Noise scale of the tensors at these positions; NaN without a pair of steps or a positive estimate of |G|²."""
        if not isinstance(self._sums, Tensor):
            return math.nan
        signal, noise = self._sums[:, list(members)].sum(-1).tolist()
        return batch_size * noise / signal if signal > 0 else math.nan
