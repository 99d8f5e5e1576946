"""The interface of a kernel, and the loop that runs it; only this loop handles compilation and recomputation."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten

from thermoebm.densities import Density
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
        ValueError: If the step size is not positive or there is no step.
    """

    def __init__(self, step_size: float, num_steps: int) -> None:
        if not step_size > 0:
            raise ValueError(f"{type(self).__name__}: step_size is {step_size}; it must be positive.")
        if num_steps < 1:
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
            noise: Standard normal noise of the shape of z.

        Returns:
            The next state, and a NamedTuple with information about this step.
        """


def run(
    kernel: Kernel,
    density: Density,
    z: Tensor,
    noise: Tensor,
    *,
    block: int | None = None,
    graph: bool = False,
    differentiable: bool = False,
) -> tuple[Any, Any]:
    """Runs one chain from each row of z, one step for each entry of the noise.

    Args:
        kernel: The transition.
        density: The target.
        z: Starting points (..., d).
        noise: Standard normal noise (K, ..., d).
        block: Number of steps to compile as one function, for these shapes; None: run uncompiled. The compile time
            grows with the block, the call overhead is paid once per block. If compilation fails, the chain runs
            eagerly, with one warning.
        graph: Replay the compiled blocks as CUDA graphs: one launch for each block instead of one for each of its
            kernels. The first chain warms up, the second is recorded. No effect on other devices or if uncompiled.
        differentiable: Record the graph of the whole chain, so that its final state can be differentiated with respect
            to the density's :meth:`~thermoebm.densities.Density.parameters`. Each step is recomputed in the backward
            pass, so memory grows by one latent a step and not by the networks' activations. Otherwise the chain
            carries no gradient. A differentiable chain is not compiled.

    Returns:
        The final state, and the kernel's information about the last step.
    """
    if differentiable:
        return _recomputed_steps(kernel, density, z, noise)
    with torch.no_grad():
        state, info = kernel.init(density, z), None
        if block is None:
            return _steps(kernel, density, state, noise)
        if graph:  # the previous chain's outputs in graph memory may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        # In a distributed step the compiler would split the graph where gradients are exchanged; here none are.
        with torch._dynamo.config.patch(optimize_ddp=False):
            for part in noise.split(block):
                state, info = _CompiledSteps.instance(graph, kernel, density, state, part)
        return tree_map_only(Tensor, Tensor.clone, (state, info)) if graph else (state, info)


def _recomputed_steps(kernel: Kernel, density: Density, z: Tensor, noise: Tensor) -> tuple[Any, Any]:
    state, info = kernel.init(density, z), None
    parameters = density.parameters()
    for epsilon in noise:
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


class _CompiledSteps:
    """``_steps`` compiled for static shapes, with or without CUDA graphs.

    A mode that has failed once in this process is not tried again. CUDA graphs are replaced by compiled steps without
    graphs, and these by ``_steps`` itself.

    Attributes:
        working: Maps False (without graphs) and True (with graphs) to the compiled function, if it has not failed.
    """

    instance: "_CompiledSteps"

    def __init__(self) -> None:
        modes = {False: None, True: "reduce-overhead"}
        self.working = {graph: torch.compile(_steps, dynamic=False, mode=mode) for graph, mode in modes.items()}

    def __call__(self, graph: bool, *args: Any) -> tuple[Any, Any]:
        graph = graph and True in self.working
        if graph not in self.working:
            return _steps(*args)
        try:
            return self.working[graph](*args)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler raises, the chain can still run
            result = _steps(*args)  # an error in the density itself is raised here, unchanged
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            without = "without CUDA graphs" if graph else "uncompiled"
            rank_zero_warn(
                f"torch.compile failed ({reason}): sampling goes on {without}, which is slower but the same."
            )
            del self.working[graph]
            return result


_CompiledSteps.instance = _CompiledSteps()
