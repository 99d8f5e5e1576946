"""The interface of a kernel, and the loop that runs it; only this loop handles compilation and recomputation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from thermoebm.densities import Density, Tempered
from thermoebm.runtime import signals
from thermoebm.runtime.numbers import positive
from thermoebm.runtime.terminal import say
from thermoebm.samplers.recompute import recomputed


class Kernel(ABC):
    """A Markov kernel with its step size and the default length of its chains.

    ``init`` and ``step`` are pure functions of their arguments. The noise is an argument, so a chain can be repeated,
    resumed, compiled and differentiated.

    Args:
        step_size: s > 0, in the convention z + s ∇log q + sqrt(2 s) ε of the report's equation 10. (Pang et al. write
            s'²/2 for s: their 0.4 is 0.08 here.)
        num_steps: Number K of steps in a chain.

    Raises:
        ValueError: If the step size is not positive and finite or there is no step.
    """

    def __init__(self, step_size: float, num_steps: int) -> None:
        if not positive(step_size):
            raise ValueError(
                f"{type(self).__name__}: step_size is {step_size}; it must be positive and finite in single precision."
            )
        if not 1 <= num_steps < math.inf:
            raise ValueError(f"{type(self).__name__}: num_steps is {num_steps}; a chain needs at least one step.")
        self.step_size = step_size
        self.num_steps = num_steps

    @abstractmethod
    def init(self, density: Density, z: Tensor) -> Any:
        """The state of chains that start at z (..., d): a NamedTuple whose first field is ``z``."""

    @abstractmethod
    def step(self, density: Density, state: Any, noise: Tensor) -> tuple[Any, NamedTuple]:
        """One transition.

        Args:
            density: The target.
            state: What :meth:`init` or the previous step returned.
            noise: Standard normal noise (..., n) with n of :meth:`noise_dim`.

        Returns:
            The next state, and a NamedTuple with information about this step.
        """

    #: Whether the end of a chain has a gradient; that of a step which may be rejected leaves out a part.
    differentiable = True
    #: Whether a step acts on all temperatures of a ladder at once, its first axis.
    whole_ladder = False

    def current_step_size(self) -> float:
        """s as it is now; default: ``step_size``, which no training changes."""
        return self.step_size

    def state(self) -> nn.Module | None:
        """What training changes of the kernel, for the model's checkpoints and devices; default: nothing."""
        return None

    def after_step(self, rates: Mapping[str, Tensor]) -> None:
        """Changes that state after a training step whose chains had these rates; nothing else calls it."""
        return None

    def noise_dim(self, latent_dim: int) -> int:
        """Normal numbers that a step takes for each latent of size d; default: d."""
        return latent_dim

    def moved(self, density: Tempered, state: Any) -> Any:
        """The state at other temperatures of the same path; default: a new one at its latents."""
        return self.init(density, state.z)

    def tempered(self, density: Tempered, state: Any) -> Tensor:
        """a(z) (...) of the path at the state's latents; default: by a pass through the network."""
        return density.tempered(state.z)

    def exchanged(self, state: Any, take: Callable[[Tensor], Tensor]) -> Any:
        """The state whose latents are exchanged between temperatures by ``take``, along their first axis."""
        return state._replace(z=take(state.z))

    def rates(self, state: Any, num_steps: int) -> dict[str, Tensor]:
        """Shares (...) of the steps since ``init``, by name, for each latent or pair; default: none."""
        return {}


def run(
    kernel: Kernel,
    density: Density,
    z: Tensor,
    noise: Tensor,
    *,
    block: int | None = None,
    differentiable: bool = False,
) -> tuple[Any, Any]:
    """Runs one chain from each row of z, one step for each entry of the noise.

    Args:
        kernel: The transition.
        density: The target.
        z: Starting points (..., d).
        noise: Standard normal noise (K, ..., n), n of the kernel's ``noise_dim``.
        block: Number of steps to compile as one function, for these shapes; None: run uncompiled. The compile time
            grows with the block, the call overhead is paid once per block. If compilation fails, the chain runs
            eagerly, with one warning.
        differentiable: Record the graph of the whole chain, so that its final state can be differentiated with respect
            to the density's :meth:`~thermoebm.densities.Density.parameters`. Each step is recomputed in the backward
            pass, so memory grows by one latent a step and not by the networks' activations. Otherwise the chain
            carries no gradient. A differentiable chain is not compiled.

    Returns:
        The final state, and the kernel's information about the last step.

    Raises:
        ValueError: If a differentiable chain of a kernel without gradient is asked for.
    """
    if differentiable:
        check_differentiable(kernel)
        return _recomputed_steps(kernel, density, z, noise)
    with torch.no_grad():
        state, info = kernel.init(density, z), None
        steps = _steps if block is None else _CompiledSteps.instance
        # In a distributed step the compiler would split the graph where gradients are exchanged; here none are.
        with torch._dynamo.config.patch(optimize_ddp=False):
            for part in noise.split(block or 1):
                signals.check()
                state, info = steps(kernel, density, state, part)
        return state, info


def check_differentiable(kernel: Kernel) -> None:
    """Raises a ValueError if the ends of this kernel's chains have no gradient."""
    if not kernel.differentiable:
        raise ValueError(
            f"{type(kernel).__name__}: whether a step is accepted has no gradient, so its chains cannot be "
            "differentiated; take ULA, or another estimator than pathwise."
        )


def _recomputed_steps(kernel: Kernel, density: Density, z: Tensor, noise: Tensor) -> tuple[Any, Any]:
    state, info = kernel.init(density, z), None
    parameters = density.parameters()
    for epsilon in noise:
        signals.check()
        start, layout = tree_flatten(state)
        end: list[TreeSpec] = []  # only tensors pass through autograd; this list receives the structure

        def step(*tensors: Tensor, layout: TreeSpec = layout, end: list[TreeSpec] = end) -> tuple[Tensor, ...]:
            *parts, noise = tensors
            leaves, spec = tree_flatten(kernel.step(density, tree_unflatten(parts, layout), noise))
            end[:] = [spec]
            return tuple(leaves)

        leaves = recomputed(step, [*start, epsilon], parameters)
        state, info = tree_unflatten(leaves, end[0])
    return state, info


def _steps(kernel: Kernel, density: Density, state: Any, noise: Tensor) -> tuple[Any, Any]:
    info = None
    for epsilon in noise.unbind():
        state, info = kernel.step(density, state, epsilon)
    return state, info


def compilations() -> int:
    """Number of functions that this process has compiled so far: a step that raises it took longer than others will."""
    return len(_CompiledSteps.instance.shapes)


class _CompiledSteps:
    """``_steps`` compiled for static shapes. Once compilation has failed in this process it is not tried again."""

    instance: "_CompiledSteps"

    def __init__(self) -> None:
        self.shapes: set[Any] = set()

    @cached_property
    def compiled(self) -> Any:
        return torch.compile(_steps, dynamic=False)  # imports the compiler, for a second or two

    def __call__(self, kernel: Kernel, density: Density, state: Any, noise: Tensor) -> tuple[Any, Any]:
        if self.compiled is None:
            return _steps(kernel, density, state, noise)
        autocast = torch.is_autocast_enabled(noise.device.type)
        shape = type(kernel), type(density), noise.shape, noise.dtype, noise.device, autocast
        if shape in self.shapes:
            return self._run(kernel, density, state, noise)
        self.shapes.add(shape)
        latents = "x".join(map(str, state.z.shape))
        say(
            f"Compiling {len(noise)} {type(kernel).__name__} step{'s'[: len(noise) > 1]} on the "
            f"{type(density).__name__} for {latents}: about ten seconds, fewer where torch's cache has them."
        )
        with signals.interruptible():
            return self._run(kernel, density, state, noise)

    def _run(self, *args: Any) -> tuple[Any, Any]:
        try:
            result: tuple[Any, Any] = self.compiled(*args)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler raises, the chain can still run
            result = _steps(*args)  # an error in the density itself is raised here, unchanged
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            rank_zero_warn(
                f"torch.compile failed ({reason}): sampling goes on uncompiled, which is slower but the same."
            )
            self.compiled = None
        return result


_CompiledSteps.instance = _CompiledSteps()
